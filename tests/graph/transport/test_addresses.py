"""Whose word is believed, and what counts as one client."""

import re

import pytest

from graph.transport.addresses import Proxies, client_of, is_loopback
from persistence.settings import SettingsError, load

PROXIES = Proxies.of("10.0.0.1, 192.168.0.0/16,2001:db8:1::/48")


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:0:7::1", "2001:db8:0:7::/64"),
        ("2001:DB8:0:7:ffff:ffff:ffff:ffff", "2001:db8:0:7::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::ffff:c000:0207", "192.0.2.7"),
        ("64:ff9b::192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("a name", "a name"),
    ],
)
def test_a_client_is_an_ipv4_address_or_a_64_of_ipv6(address: str, client: str) -> None:
    assert client_of(address) == client


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.1", ["192.0.2.7"], "203.0.113.1"),  # nobody whose word is believed
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        ("::ffff:10.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["127.0.0.1, 192.0.2.7"], "192.0.2.7"),  # what the client wrote is not read
        ("10.0.0.1", ["192.0.2.7, 192.168.3.4"], "192.0.2.7"),
        ("10.0.0.1", ["192.0.2.7", "192.168.3.4"], "192.0.2.7"),
        ("10.0.0.1", ["192.168.3.4", "192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["192.168.9.9, 192.168.3.4"], "192.168.9.9"),
        ("10.0.0.1", ["192.0.2.7, ,"], "192.0.2.7"),
        ("10.0.0.1", ["192.0.2.7:4711"], "192.0.2.7"),
        ("10.0.0.1", ['"192.0.2.7"'], "192.0.2.7"),
        ("10.0.0.1", ["2001:db8:0:7::1"], "2001:db8:0:7::/64"),
        ("10.0.0.1", ["[2001:db8:0:7::1]:4711"], "2001:db8:0:7::/64"),
        ("10.0.0.1", ["[2001:db8:0:7::1"], "2001:db8:0:7::/64"),
        ("10.0.0.1", ["fe80::1%25eth0"], "fe80::/64"),
        ("2001:db8:1::9", ["::ffff:192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["192.0.2.7, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.7, 192.168.3.4, ../../etc"], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.7, 999.0.0.1"], "10.0.0.1"),
        ("10.0.0.1", ["\xb2.0.0.1"], "10.0.0.1"),
        ("unix:", ["192.0.2.7"], "unix:"),
    ],
)
def test_forwarded_addresses_are_believed_as_far_as_trusted_proxies_go(
    peer: str, forwarded: list[str], client: str
) -> None:
    assert PROXIES.client(peer, forwarded) == client


@pytest.mark.parametrize("text", ["*", "localhost", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.1 10.0.0.2", "unix:"])
def test_what_is_no_address_is_no_proxy(text: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(text)):
        load({"TASKSTORE_TRUSTED_PROXIES": f"10.0.0.1,{text}"})


@pytest.mark.parametrize("text", ["::ffff:10.0.0.1", "::ffff:a00:1", "::ffff:10.0.0.0/104", "fe80::1%eth0, 10.0.0.0/8"])
def test_a_proxy_is_known_in_whatever_form_its_address_is_written(text: str) -> None:
    proxies = Proxies.of(load({"TASKSTORE_TRUSTED_PROXIES": text}).trusted_proxies)

    assert [peer in proxies for peer in ("10.0.0.1", "::ffff:10.0.0.1", "11.0.0.1")] == [True, True, False]


def test_nobody_is_trusted_without_the_setting() -> None:
    assert not Proxies.of(" , ")
    assert "10.0.0.1" not in Proxies.of("")
    assert Proxies.of("").client("127.0.0.1", ["192.0.2.7"]) == "127.0.0.1"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True)]
    + [(host, False) for host in ("0.0.0.0", "::", "192.0.2.7", "example.org", "localhost.example.org")],
)
def test_what_only_this_machine_reaches(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
