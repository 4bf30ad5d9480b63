//! Which addresses are never asked, whatever the configuration or a name server says.
//!
//! Machines hand out their own credentials at link-local and other fixed addresses, to whoever asks from inside. A name that
//! is looked up once to be judged and once more to be connected to can change in between, so the judge sits where the
//! connection gets its addresses: only those that were judged are connected to. Names that are addresses are not looked
//! up, and are judged as they are. Private and loopback addresses are where services live, and are asked.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use futures_util::{FutureExt, future::BoxFuture};
use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

/// Finds the addresses of a host's name.
pub type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// Most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// As the operating system finds them.
pub fn system_lookup() -> Lookup {
    Arc::new(|name| {
        async move { Ok(tokio::net::lookup_host((name.as_str(), 0)).await?.take(ADDRESSES_MAX).collect()) }.boxed()
    })
}

/// An address that is never asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused(pub(super) IpAddr);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is link-local, a machine's own metadata or no host's address, and is never probed", self.0)
    }
}

impl std::error::Error for Refused {}

/// Refuses what must not be asked.
fn check(address: IpAddr) -> Result<(), Refused> {
    let is_refused = match address {
        IpAddr::V4(v4) => is_refused_v4(v4),
        IpAddr::V6(v6) => is_refused_v6(v6),
    };
    if is_refused { Err(Refused(address)) } else { Ok(()) }
}

fn is_refused_v4(address: Ipv4Addr) -> bool {
    /// Where Alibaba, Oracle and Azure answer a machine, besides the link-local address of all others.
    const METADATA: [Ipv4Addr; 3] =
        [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192), Ipv4Addr::new(168, 63, 129, 16)];
    let [first, ..] = address.octets();
    first == 0
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || METADATA.contains(&address)
}

fn is_refused_v6(address: Ipv6Addr) -> bool {
    /// Where Amazon answers a machine.
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    let [first, second, third, .., low, lowest] = address.segments();
    let v4_of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    if address.is_loopback() {
        return false;
    }
    // What stands for an IPv4 address is as good or bad as that: mapped or compatible, translated (NAT64), 6to4.
    let is_v4 = address.to_ipv4().is_some() || (first, second) == (0x64, 0xff9b);
    (is_v4 && is_refused_v4(v4_of(low, lowest)))
        || (first == 0x2002 && is_refused_v4(v4_of(second, third)))
        || address.is_unspecified()
        || address.is_unicast_link_local()
        || address.is_multicast()
        || address == METADATA
}

/// Refuses an address that is written instead of a name.
pub(super) fn check_literal(url: &Url) -> Result<(), Refused> {
    let host = url.host_str().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.parse().map_or(Ok(()), check)
}

/// Looks names up, and leaves out what must not be asked.
pub(super) struct Judged(pub(super) Lookup);

impl Resolve for Judged {
    fn resolve(&self, name: Name) -> Resolving {
        let found = (self.0)(name.as_str().to_owned());
        Box::pin(async move {
            let mut refused = None;
            let mut asked = Vec::new();
            for address in found.await?.into_iter().take(ADDRESSES_MAX) {
                match check(address.ip()) {
                    Ok(()) => asked.push(address),
                    Err(why) => refused = Some(why),
                }
            }
            match refused {
                Some(why) if asked.is_empty() => Err(why.into()),
                Some(_) | None => {
                    let asked: Addrs = Box::new(asked.into_iter());
                    Ok(asked)
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machines_own_addresses_are_refused_in_every_way_to_write_them() {
        for refused in [
            "169.254.169.254",
            "169.254.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "::ffff:0.0.0.0",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
        ] {
            assert!(check(refused.parse().unwrap()).is_err(), "{refused}");
        }
        for asked in ["127.0.0.1", "10.0.0.1", "192.168.1.1", "100.64.0.1", "8.8.8.8", "::1", "fd00::1", "2a00::1"] {
            assert_eq!(check(asked.parse().unwrap()), Ok(()), "{asked}");
        }
        for url in ["http://2852039166/", "http://0xa9.0xfe.0xa9.0xfe/", "http://[::ffff:a9fe:a9fe]/", "http://0/"] {
            assert!(check_literal(&Url::parse(url).unwrap()).is_err(), "{url}");
        }
        assert_eq!(check_literal(&Url::parse("http://shop.internal/").unwrap()), Ok(()));
    }
}
