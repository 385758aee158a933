//! Measures pushes and pulls against a registry: `throughput HOST:PORT [MB]`.

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::env;
use std::error::Error;
use std::fs;
use std::io;
use std::time::Instant;

use strake_oci::{Descriptor, MediaType, Reference};
use strake_registry::{BlobSource, Client, RegistryConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let host = arguments.next().ok_or("usage: throughput HOST:PORT [MB]")?;
    let megabytes: usize = arguments.next().map_or(Ok(100), |text| text.parse())?;
    let client = Client::new(RegistryConfig::default());
    let file = env::temp_dir().join(format!("throughput-{}", std::process::id()));
    for round in 0..3_u64 {
        let name: Reference = format!("{host}/throughput/round{round}-{}", std::process::id()).parse()?;
        let content =
            |salt: u64| noise(megabytes * 1_000_000, round * 7 + salt + u64::from(std::process::id()));
        let (known, streamed) = (content(1), content(2));
        let known_descriptor = Descriptor::of(MediaType::OCI_LAYER, &known);
        fs::write(&file, &known)?;
        let measure = |what: &str,
                       work: &mut dyn FnMut() -> Result<(), Box<dyn Error>>|
         -> Result<(), Box<dyn Error>> {
            let started = Instant::now();
            work()?;
            let seconds = started.elapsed().as_secs_f64();
            println!("{what:28} {:7.0} MB/s  {seconds:.3} s", f64::from(u32::try_from(megabytes)?) / seconds);
            Ok(())
        };
        measure("push a file", &mut || {
            let source = BlobSource::File { path: file.clone(), descriptor: known_descriptor.clone() };
            client.push_blob(&name, source, &[], &())?;
            Ok(())
        })?;
        let descriptor = Descriptor::of(MediaType::OCI_LAYER, &streamed);
        measure("push a stream", &mut || {
            let finish = || Ok(descriptor.clone());
            let source =
                BlobSource::Stream { reader: Box::new(streamed.as_slice()), finish: Box::new(finish) };
            client.push_blob(&name, source, &[], &())?;
            Ok(())
        })?;
        measure("pull, verified", &mut || {
            client.fetch_blob(&name, &known_descriptor, &mut io::sink(), &())?;
            Ok(())
        })?;
        measure("half of two pulls, verified", &mut || {
            std::thread::scope(|scope| {
                let other = scope.spawn(|| client.fetch_blob(&name, &descriptor, &mut io::sink(), &()));
                client.fetch_blob(&name, &known_descriptor, &mut io::sink(), &())?;
                other.join().map_err(|_| "a pull panicked")??;
                Ok(())
            })
        })?;
    }
    fs::remove_file(&file)?;
    println!("{:?}", client.transfers());
    Ok(())
}

fn noise(length: usize, salt: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ salt.wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
