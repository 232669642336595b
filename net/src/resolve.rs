//! Looks up what a list of machines names, on this machine and by its name servers.

use std::{
    env,
    fs::File,
    io::{self, Read},
    net::{IpAddr, ToSocketAddrs},
    path::Path,
};

use distfun_core::machines::{MAX_SOURCE_BYTES, Sources};

/// Files, environment and name servers of this machine. Each answer is waited for, so ask from a thread that may wait;
/// it needs no runtime around it, and one around it does no harm.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Sources for System {
    fn file(&mut self, path: &Path) -> io::Result<String> {
        let mut bytes = Vec::new();
        // One byte more tells a file that is too large from one that just fits; a device may have no end.
        File::open(path)?.take(MAX_SOURCE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_SOURCE_BYTES {
            let text = format!("it has more than the {MAX_SOURCE_BYTES} bytes that a list of machines may have");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            io::Error::new(io::ErrorKind::InvalidData, format!("its byte {at} is not UTF-8"))
        })
    }

    fn env(&mut self, name: &str) -> Option<String> {
        env::var_os(name).map(|text| text.to_string_lossy().into_owned())
    }

    fn dns(&mut self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
    }

    #[cfg(feature = "srv")]
    fn srv(&mut self, name: &str) -> io::Result<Vec<(String, u16)>> {
        service::look_up(name)
    }

    #[cfg(not(feature = "srv"))]
    fn srv(&mut self, _: &str) -> io::Result<Vec<(String, u16)>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "srv: needs the feature `srv` of distfun-net, built without it"))
    }
}

#[cfg(feature = "srv")]
mod service {
    use std::{io, thread};

    use hickory_resolver::{
        Resolver, ResolverBuilder,
        net::{NetError, runtime::TokioRuntimeProvider},
        proto::rr::RData,
    };

    type Builder = ResolverBuilder<TokioRuntimeProvider>;

    /// Target and port of each record, by the name servers of this machine.
    pub(super) fn look_up(name: &str) -> io::Result<Vec<(String, u16)>> {
        // A dot at the end keeps the search list of this machine out of it.
        let name = if name.ends_with('.') { name.to_owned() } else { format!("{name}.") };
        ask(name, Resolver::builder_tokio)
    }

    /// Asks in a thread of its own, since a runtime can't be started where one runs.
    fn ask(
        name: String,
        servers: impl FnOnce() -> Result<Builder, NetError> + Send + 'static,
    ) -> io::Result<Vec<(String, u16)>> {
        let asking = thread::Builder::new().name("distfun-srv".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let resolver = servers().and_then(Builder::build).map_err(io::Error::other)?;
                let found = resolver.srv_lookup(name).await.map_err(io::Error::other)?;
                let target = |data: &RData| match data {
                    RData::SRV(record) => Some((record.target.to_utf8(), record.port)),
                    _ => None,
                };
                Ok(found.answers().iter().filter_map(|record| target(&record.data)).collect())
            })
        })?;
        asking.join().unwrap_or_else(|_| Err(io::Error::other("the resolver panicked")))
    }

    #[cfg(test)]
    mod tests {
        use std::net::{Ipv4Addr, UdpSocket};

        use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};

        use super::*;

        /// Answers one question by `records`, each a port and a target of one label.
        fn serve(socket: &UdpSocket, records: &[(u16, &str)]) {
            let mut question = [0; 512];
            let (_, peer) = socket.recv_from(&mut question).unwrap();
            // Behind the header: labels up to an empty one, type and class.
            let end = 12 + question[12..].iter().position(|&byte| byte == 0).unwrap() + 5;
            let mut answer = question[..end].to_vec();
            answer[2..4].copy_from_slice(&[0x81, 0x80]);
            answer[4..12].copy_from_slice(&[0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
            for (port, target) in records {
                answer.extend([0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 60, 0, target.len() as u8 + 8]);
                answer.extend([0, 1, 0, 1]);
                answer.extend(port.to_be_bytes());
                answer.push(target.len() as u8);
                answer.extend(target.as_bytes());
                answer.push(0);
            }
            socket.send_to(&answer, peer).unwrap();
        }

        #[test]
        fn every_record_of_a_service_is_found_even_inside_a_runtime() {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let mut udp = ConnectionConfig::udp();
            udp.port = socket.local_addr().unwrap().port();
            let server = NameServerConfig::new(Ipv4Addr::LOCALHOST.into(), true, vec![udp]);
            let config = ResolverConfig::from_parts(None, vec![], vec![server]);
            let servers = move || Ok(Resolver::builder_with_config(config, TokioRuntimeProvider::default()));
            let serving = thread::spawn(move || serve(&socket, &[(2718, "ann"), (2719, "bob"), (2720, "bob")]));

            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut found = runtime.block_on(async { ask("_distfun._tcp.lan.".into(), servers) }).unwrap();
            serving.join().unwrap();
            found.sort();
            assert_eq!(found, [("ann.".into(), 2718), ("bob.".into(), 2719), ("bob.".into(), 2720)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use distfun_core::machines::MachineList;

    use super::*;
    use crate::DEFAULT_PORT;

    #[test]
    fn files_and_addresses_of_this_machine_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        fs::write(&path, "bob:2719 # first\nn[1-2]*4\n").unwrap();
        let entries = [format!("file:{}", path.display()), "dns:localhost:2720".into()];
        let machines = MachineList::parse(&entries, DEFAULT_PORT).unwrap().expand(&mut System).unwrap();
        let names: Vec<String> = machines.iter().map(ToString::to_string).collect();
        assert_eq!(names[..3], ["bob:2719", "n1*4", "n2*4"]);
        assert!(names[3..].iter().any(|name| ["127.0.0.1:2720", "[::1]:2720"].contains(&name.as_str())), "{names:?}");
    }

    #[test]
    fn a_file_that_is_no_list_is_refused_without_reading_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        // Sparse: it takes no room.
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(System.file(&path).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        fs::write(&path, b"bob\xff").unwrap();
        assert_eq!(System.file(&path).unwrap_err().to_string(), "its byte 3 is not UTF-8");
        assert_eq!(System.file(&folder.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_variable_is_read_and_a_missing_one_is_told_apart() {
        assert!(System.env("PATH").is_some());
        assert_eq!(System.env("DISTFUN_THERE_IS_NONE"), None);
    }

    #[cfg(not(feature = "srv"))]
    #[test]
    fn services_are_refused_where_they_are_not_built_in() {
        assert!(System.srv("_distfun._tcp.lan").unwrap_err().to_string().contains("needs the feature `srv`"));
    }
}
