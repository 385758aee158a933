//! Ports of `EXPOSE`.

/// What one word exposes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exposed {
    /// `80/tcp`, one for each port of a range.
    pub(crate) ports: Vec<String>,
    /// Whether an address or a port of the host was given, which means nothing here.
    pub(crate) is_mapping: bool,
    pub(crate) is_upper_case: bool,
}

/// Reads `[[address:]host-port:]port[-port][/protocol]`.
pub(crate) fn parse(text: &str) -> Result<Exposed, String> {
    let (outside, inside) = match text.rsplit_once(':') {
        Some((outside, inside)) => (Some(outside), inside),
        None => (None, text),
    };
    let (range, protocol) = inside.split_once('/').unwrap_or((inside, ""));
    let lower = protocol.to_ascii_lowercase();
    let name = match lower.as_str() {
        "" => "tcp",
        known @ ("tcp" | "udp" | "sctp") => known,
        other => return Err(format!("unknown protocol `{other}` (known: tcp, udp, sctp)")),
    };
    let (first, last) = port_range(range)?;
    if let Some(outside) = outside {
        check_outside(outside, (first, last))?;
    }
    Ok(Exposed {
        ports: (first..=last).map(|port| format!("{port}/{name}")).collect(),
        is_mapping: outside.is_some(),
        is_upper_case: lower != protocol,
    })
}

fn check_outside(outside: &str, (first, last): (u16, u16)) -> Result<(), String> {
    let (address, host) = match outside.rsplit_once(':') {
        Some((address, host)) => (address, host),
        None => ("", outside),
    };
    let address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if !address.is_empty() && address.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("`{address}` is not an address"));
    }
    if host.is_empty() {
        return Ok(());
    }
    let (host_first, host_last) = port_range(host)?;
    if first != last && host_last - host_first != last - first {
        return Err("the two ranges differ in length".into());
    }
    Ok(())
}

fn port_range(text: &str) -> Result<(u16, u16), String> {
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>()
            .ok()
            .filter(|_| digits)
            .ok_or_else(|| "ports are numbers from 0 to 65535".to_owned())
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    if last < first { Err("the range ends before it begins".into()) } else { Ok((first, last)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read() {
        let ports = |text| parse(text).map(|exposed| exposed.ports.join(" "));
        assert_eq!(ports("80"), Ok("80/tcp".into()));
        assert_eq!(ports("80-82/UDP"), Ok("80/udp 81/udp 82/udp".into()));
        assert_eq!(ports("127.0.0.1:8080:80/sctp"), Ok("80/sctp".into()));
        assert_eq!(ports("[::1]::80"), Ok("80/tcp".into()));
        for text in ["", "a", "65536", "-1", "+1", "9-8", "80/", "80/x", "1-2-3", "x:80:80", "1-2:3-5", "80-"]
        {
            assert_eq!(parse(text).is_err(), text != "80/", "{text}");
        }
    }
}
