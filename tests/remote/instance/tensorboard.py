"""A stand-in for the platform's TensorBoard, which takes a connection and says nothing for a while."""

import socket
import sys
import threading
import time


def hold(connection):
    time.sleep(30)
    connection.close()


with socket.create_server(("0.0.0.0", int(sys.argv[1]))) as listener:
    while True:
        threading.Thread(target=hold, args=(listener.accept()[0],), daemon=True).start()
