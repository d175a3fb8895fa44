"""A container whose port is published on its host's loopback: the host needs no key and is looked at as loopback is."""

from pathlib import Path

import httpx
import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cosyserve.errors import CosyError
from cosyserve.keys import accepted_keys
from cosyserve.keys.key_file import KeyFile
from cosyserve.keys.keyring import Keyring
from cosyserve.machine import IMAGE, Machine
from cosyserve.server.door import Door
from cosyserve.server.listening import listen
from cosyserve.server.published import HOST_ADDRESS, Host, gateways, where
from cosyserve.settings import Settings, load_settings

# As the kernel writes it: the default route of a container, then its own network.
ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
"""
GATEWAY, NEIGHBOUR = "172.17.0.1", "172.17.0.3"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing listens in these tests


@pytest.fixture
def container(tmp_path: Path) -> Machine:
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/route").write_text(ROUTES)
    (tmp_path / ".dockerenv").touch()
    return Machine(tmp_path, {})


async def _let_in(scope: Scope, receive: Receive, send: Send) -> None:
    """Stand-in for an application."""
    await Response("known" if scope["state"]["known"] else "in")(scope, receive, send)


async def ask(settings: Settings, machine: Machine, client: str, path: str = "/v1/models", **headers: str) -> str:
    """What the door does with a request from an address: its id, or whether it lets everything be known."""
    host = Host(settings, machine)
    keyring = Keyring(settings)
    keyring.open()
    door = Door(_let_in, keyring, settings, host)
    transport = httpx.ASGITransport(door, client=(client, 50_000))
    headers = {"Host": "127.0.0.1:6008", **{name.replace("_", "-"): value for name, value in headers.items()}}
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as asking:
        answer = await asking.get(path, headers=headers)
    return answer.text if answer.status_code == 200 else str(answer.json()["error"]["code"])


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(host=EVERYWHERE, publish="127.0.0.1:6008", state_dir=tmp_path / "state")


@pytest.mark.anyio
async def test_the_host_needs_no_key_and_its_neighbours_do(settings: Settings, container: Machine) -> None:
    assert await ask(settings, container, GATEWAY) == "known"
    for stranger in (NEIGHBOUR, "192.0.2.7", "127.0.0.1", ""):
        assert await ask(settings, container, stranger) == "CS-AUTH-001"
        assert await ask(settings, container, stranger, "/readyz") == "in"
    (key,) = accepted_keys(settings)
    assert await ask(settings, container, NEIGHBOUR, Authorization=f"Bearer {key}") == "known"


@pytest.mark.anyio
async def test_where_there_are_named_keys_the_host_needs_one_too(settings: Settings, container: Machine) -> None:
    named = KeyFile(settings.state_dir).add("anna")
    assert await ask(settings, container, GATEWAY) == "CS-AUTH-001"
    for key in (named, *accepted_keys(settings)):
        assert await ask(settings, container, GATEWAY, Authorization=f"Bearer {key}") == "known"


@pytest.mark.anyio
async def test_what_a_proxy_on_the_host_passes_on_needs_a_key(settings: Settings, container: Machine) -> None:
    for name in ("X_Forwarded_For", "Forwarded", "X_Real_Ip"):
        assert await ask(settings, container, GATEWAY, **{name: "203.0.113.9"}) == "CS-AUTH-001"


@pytest.mark.parametrize("name", ["evil.example", "192.168.1.5", "127.0.0.1.evil.example"])
@pytest.mark.anyio
async def test_a_name_that_is_pointed_at_the_host_is_refused(settings: Settings, container: Machine, name: str) -> None:
    assert await ask(settings, container, GATEWAY, Host=name) == "CS-AUTH-002"
    (key,) = accepted_keys(settings)  # which is all that counts
    assert await ask(settings, container, GATEWAY, Host=name, Authorization=f"Bearer {key}") == "known"


@pytest.mark.anyio
async def test_a_foreign_page_in_a_browser_of_the_host_is_refused(settings: Settings, container: Machine) -> None:
    assert await ask(settings, container, GATEWAY, Origin="https://evil.example") == "CS-AUTH-003"
    assert await ask(settings, container, GATEWAY, Origin="http://127.0.0.1:6008") == "known"


@pytest.mark.parametrize(
    "given",
    [{"publish": ""}, {"publish": f"{EVERYWHERE}:6008"}, {"publish": "192.0.2.1:6008"}, {"api_keys": "sesame"}],
    ids=str,
)
@pytest.mark.anyio
async def test_anything_but_loopback_asks_the_host_as_well(
    settings: Settings, container: Machine, given: dict[str, str]
) -> None:
    other = Settings(**{**settings.model_dump(exclude_unset=True), **given})
    assert await ask(other, container, GATEWAY) == "CS-AUTH-001"


@pytest.mark.anyio
async def test_without_a_gateway_everybody_needs_a_key(settings: Settings, tmp_path: Path) -> None:
    """A container without a network, or one that nothing leads out of."""
    for client in ("", EVERYWHERE, GATEWAY):
        assert await ask(settings, Machine(tmp_path, {}), client) == "CS-AUTH-001"


@pytest.mark.anyio
async def test_outside_a_container_the_gateway_is_somebody_else(settings: Settings, container: Machine) -> None:
    """Such as a router that passes on what comes from the internet."""
    container.path("/.dockerenv").unlink()
    assert await ask(settings, container, GATEWAY) == "CS-AUTH-001"


def test_the_gateway_is_read_as_the_kernel_writes_it(container: Machine) -> None:
    assert gateways(container) == {GATEWAY}


@pytest.mark.parametrize(
    ("publish", "found"),
    [
        ("127.0.0.1:7000", "http://127.0.0.1:7000/"),
        (f"{EVERYWHERE}:6008", "http://127.0.0.1:6008/ (from elsewhere: http://192.0.2.7:6008/)"),
        ("[::]:6008", "http://[::1]:6008/ (from elsewhere: http://192.0.2.7:6008/)"),
        ("192.0.2.1:80", "http://192.0.2.1:80/"),
        ("127.0.0.1:0", "http://127.0.0.1:{port}/"),  # Docker takes a free one and tells nobody here
        ("", "http://127.0.0.1:{port}/"),
    ],
)
def test_what_a_container_announces_is_where_its_host_publishes_it(
    monkeypatch: pytest.MonkeyPatch, publish: str, found: str
) -> None:
    monkeypatch.setenv(IMAGE, "cosyserve:slim")
    monkeypatch.setenv(HOST_ADDRESS, "192.0.2.7")
    with listen("127.0.0.1", 0) as bound:
        assert where(Settings(publish=publish), bound) == found.format(port=bound.getsockname()[1])


def test_a_server_on_all_addresses_announces_the_one_that_others_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(IMAGE, raising=False)
    with listen(EVERYWHERE, 0) as bound:
        port = bound.getsockname()[1]
        found = where(Settings(host=EVERYWHERE), bound)
    here, _, elsewhere = found.partition(" (from elsewhere: ")
    assert here == f"http://127.0.0.1:{port}/"
    if elsewhere:  # a machine without a network has none
        assert httpx.URL(elsewhere.rstrip(")")).host not in ("127.0.0.1", EVERYWHERE)


@pytest.mark.parametrize("publish", ["6008", "127.0.0.1", "127.0.0.1:x", "a b:1", ":6008"])
def test_what_is_no_address_is_refused(publish: str) -> None:
    with pytest.raises(CosyError) as refused:
        load_settings(publish=publish)
    assert refused.value.fault.id == "CS-SET-001"
