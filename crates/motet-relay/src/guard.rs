//! The address guard: which addresses relay may connect to.
//!
//! The URL of an endpoint is chosen by a client of the API. Without a guard a client could make relay send requests
//! into relay's own network (server-side request forgery). The guard checks the address that is actually dialled,
//! after name resolution, and the connection goes to exactly that address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, PoisonError, RwLock};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use thiserror::Error;

/// relay may not connect to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{address} is {why}; start relay with --allow-net to permit such addresses")]
pub struct BlockedAddressError {
    /// The blocked address.
    pub address: IpAddr,
    /// The kind of the address, such as "a loopback address".
    pub why: &'static str,
}

/// Decides which addresses relay may connect to: public addresses, and the networks of `--allow-net`. Clones share the
/// networks.
///
/// ```
/// use motet_relay::AddressGuard;
///
/// let guard = AddressGuard::new(vec!["127.0.0.1/32".parse()?]);
/// assert!(guard.check("127.0.0.1".parse()?).is_ok());
/// assert!(guard.check("10.0.0.1".parse()?).is_err());
/// assert!(guard.check("::ffff:169.254.169.254".parse()?).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct AddressGuard {
    allowed: Arc<RwLock<Vec<IpNet>>>,
}

impl AddressGuard {
    /// Creates a guard that allows public addresses and the networks in `allowed`.
    #[must_use]
    pub fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed: Arc::new(RwLock::new(allowed)) }
    }

    /// The networks that are allowed in addition to public addresses.
    #[must_use]
    pub fn allowed(&self) -> Vec<IpNet> {
        self.allowed.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the networks that are allowed in addition to public addresses. A connection that exists is not checked
    /// again.
    pub fn set_allowed(&self, allowed: Vec<IpNet>) {
        *self.allowed.write().unwrap_or_else(PoisonError::into_inner) = allowed;
    }

    /// Checks that relay may connect to an address.
    ///
    /// An IPv4-mapped IPv6 address is treated like the IPv4 address that it reaches.
    ///
    /// # Errors
    /// [`BlockedAddressError`] with the address and its kind.
    pub fn check(&self, address: IpAddr) -> Result<(), BlockedAddressError> {
        let address = address.to_canonical();
        let allowed = self.allowed.read().unwrap_or_else(PoisonError::into_inner);
        if allowed.iter().any(|net| net.contains(&address)) {
            return Ok(());
        }
        let why = match address {
            IpAddr::V4(v4) => blocked_v4(v4),
            IpAddr::V6(v6) => blocked_v6(v6),
        };
        why.map_or(Ok(()), |why| Err(BlockedAddressError { address, why }))
    }
}

/// Returns a network as a constant.
const fn net4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

/// Returns a network as a constant, from its first four groups.
const fn net6(a: u16, b: u16, c: u16, d: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), prefix)
}

/// Source: the IANA IPv4 Special-Purpose Address Registry.
const BLOCKED_V4: [(Ipv4Net, &str); 16] = [
    (net4(0, 0, 0, 0, 8), "an address of \"this network\""),
    (net4(10, 0, 0, 0, 8), "a private address"),
    (net4(100, 64, 0, 0, 10), "a carrier-grade NAT address"),
    (net4(127, 0, 0, 0, 8), "a loopback address"),
    (net4(169, 254, 0, 0, 16), "a link-local address (cloud metadata)"),
    (net4(172, 16, 0, 0, 12), "a private address"),
    (net4(192, 0, 0, 0, 24), "a protocol assignment"),
    (net4(192, 0, 2, 0, 24), "a documentation address"),
    (net4(192, 31, 196, 0, 24), "an AS112 address"),
    (net4(192, 52, 193, 0, 24), "an AMT address"),
    (net4(192, 88, 99, 0, 24), "a 6to4 relay address"),
    (net4(192, 168, 0, 0, 16), "a private address"),
    (net4(198, 18, 0, 0, 15), "a benchmarking address"),
    (net4(198, 51, 100, 0, 24), "a documentation address"),
    (net4(203, 0, 113, 0, 24), "a documentation address"),
    (net4(224, 0, 0, 0, 3), "a multicast or reserved address"),
];

/// Networks inside 2000::/3, the only part of IPv6 that is assigned for public use. Source: the IANA IPv6
/// Special-Purpose Address Registry.
const BLOCKED_V6: [(Ipv6Net, &str); 4] = [
    // Contains Teredo, ORCHID, benchmarking and AS112; no ordinary host has an address in it.
    (net6(0x2001, 0, 0, 0, 23), "a protocol assignment"),
    (net6(0x2001, 0xdb8, 0, 0, 32), "a documentation address"),
    (net6(0x2620, 0x4f, 0x8000, 0, 48), "an AS112 address"),
    (net6(0x3fff, 0, 0, 0, 20), "a documentation address"),
];

const GLOBAL_UNICAST_V6: Ipv6Net = net6(0x2000, 0, 0, 0, 3);
const NAT64: Ipv6Net = net6(0x64, 0xff9b, 0, 0, 96);
const SIX_TO_FOUR: Ipv6Net = net6(0x2002, 0, 0, 0, 16);

fn blocked_v4(address: Ipv4Addr) -> Option<&'static str> {
    BLOCKED_V4.iter().find(|(net, _)| net.contains(&address)).map(|(_, why)| *why)
}

fn blocked_v6(address: Ipv6Addr) -> Option<&'static str> {
    let [_, a, b, _, _, _, _, _] = address.segments();
    let [.., i, j, k, l] = address.octets();
    if NAT64.contains(&address) {
        return blocked_v4(Ipv4Addr::new(i, j, k, l)).map(|_| "a NAT64 form of a blocked IPv4 address");
    }
    if SIX_TO_FOUR.contains(&address) {
        let [a_high, a_low] = a.to_be_bytes();
        let [b_high, b_low] = b.to_be_bytes();
        return blocked_v4(Ipv4Addr::new(a_high, a_low, b_high, b_low))
            .map(|_| "a 6to4 form of a blocked IPv4 address");
    }
    // ISATAP: the interface identifier is 0:5efe or 200:5efe before the IPv4 address (RFC 5214).
    let [.., e, f, _, _] = address.segments();
    if matches!(e, 0 | 0x200) && f == 0x5efe && blocked_v4(Ipv4Addr::new(i, j, k, l)).is_some() {
        return Some("an ISATAP form of a blocked IPv4 address");
    }
    if !GLOBAL_UNICAST_V6.contains(&address) {
        return Some(outside_global_unicast(address));
    }
    BLOCKED_V6.iter().find(|(net, _)| net.contains(&address)).map(|(_, why)| *why)
}

fn outside_global_unicast(address: Ipv6Addr) -> &'static str {
    if address.is_loopback() {
        "a loopback address"
    } else if address.is_unique_local() {
        "a unique local address"
    } else if address.is_unicast_link_local() {
        "a link-local address"
    } else if address.is_multicast() {
        "a multicast address"
    } else {
        "not a global unicast address"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: [&str; 24] = [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.1",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.1",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2606:4700::1111",
        "2a00:1450:4001::1",
        "2001:4860:4860::8888",
        "2001:200::1",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
    ];

    const BLOCKED: [&str; 68] = [
        // IPv4
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.0",
        "10.255.255.255",
        "100.64.0.0",
        "100.100.100.200",
        "100.127.255.255",
        "127.0.0.1",
        "127.1.2.3",
        "127.255.255.255",
        "169.254.0.1",
        "169.254.169.254",
        "169.254.170.2",
        "172.16.0.0",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.0.192",
        "192.0.0.255",
        "192.0.2.1",
        "192.31.196.1",
        "192.52.193.1",
        "192.88.99.1",
        "192.168.0.1",
        "192.168.255.255",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.7",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        // IPv6
        "::",
        "::1",
        "::2",
        "100::1",
        "fc00::1",
        "fd00::1",
        "fd00:ec2::254",
        "fdff:ffff::1",
        "fe80::1",
        "fe80::a9fe:a9fe",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
        "2001::1",
        "2001:2::1",
        "2001:10::1",
        "2001:20::1",
        "2001:db8::1",
        "2620:4f:8000::1",
        "3fff::1",
        "4000::1",
        "5f00::1",
        "64:ff9b:1::1",
        // IPv4 inside IPv6
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0:127.0.0.1",
        "::127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::169.254.169.254",
        "2002:7f00:1::1",
        "2002:a9fe:a9fe::1",
        "2606:4700::5efe:10.0.0.1",
        "2606:4700::200:5efe:127.0.0.1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    ];

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn guard_allows_public_addresses() {
        let guard = AddressGuard::default();
        for address in PUBLIC {
            assert_eq!(guard.check(ip(address)), Ok(()), "{address}");
        }
    }

    #[test]
    fn guard_refuses_special_purpose_addresses() {
        let guard = AddressGuard::default();
        for address in BLOCKED {
            assert!(guard.check(ip(address)).is_err(), "{address} passed");
        }
    }

    #[test]
    fn allowed_network_passes_and_its_neighbours_do_not() {
        let guard = AddressGuard::new(vec!["10.1.0.0/16".parse().unwrap(), "fd12::/16".parse().unwrap()]);
        for (address, passes) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.1", false),
            ("fd12::7", true),
            ("fd13::7", false),
            // Allowing an IPv4 network does not allow the tunnels that end in it.
            ("64:ff9b::10.1.2.3", false),
            ("2002:a01:203::1", false),
            ("127.0.0.1", false),
            ("8.8.8.8", true),
        ] {
            assert_eq!(guard.check(ip(address)).is_ok(), passes, "{address}");
        }
    }

    #[test]
    fn refusal_names_the_kind_of_address_and_the_option() {
        let refusal = AddressGuard::default().check(ip("::ffff:127.0.0.1")).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "127.0.0.1 is a loopback address; start relay with --allow-net to permit such addresses"
        );
    }
}
