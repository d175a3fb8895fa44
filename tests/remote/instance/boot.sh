#!/usr/bin/env bash
# Process 1 of the stand-in, as on the platform: the boot file in the background, a TensorBoard that is slow, SSH.
ldconfig # the base Python is brought in from outside
if [[ -f /etc/autodl.sh ]]; then
  setsid bash /etc/autodl.sh >/tmp/autodl.sh.log 2>&1 </dev/null &
fi
/usr/bin/python3.11 /stand-in/tensorboard.py 6007 &
[[ -e /stand-in/no-network ]] || /usr/bin/python3.11 /stand-in/index.py /wheels 8081 &
while :; do
  /usr/sbin/sshd -D -e 2>>/var/log/sshd.log
done
