use super::*;

/// Text that compresses, noise that does not, in a known mixture.
fn sample(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    (0..length)
        .map(|at| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if at % 8192 < 4096 { b"the quick brown fox "[at % 20] } else { state.to_be_bytes()[0] }
        })
        .collect()
}

fn compress(bytes: &[u8], compression: Compression, threads: usize) -> (Vec<u8>, CompressedInfo) {
    let options = CompressOptions { compression, level: None, threads: Some(threads) };
    let mut compressor = Compressor::new(Vec::new(), &options).unwrap();
    // Odd pieces, so that chunks never begin where writes do.
    bytes.chunks(77_777).for_each(|piece| compressor.write_all(piece).unwrap());
    compressor.finish().unwrap()
}

#[test]
fn what_goes_in_comes_out_whatever_the_number_of_threads() {
    for length in [0, 1, GZIP_CHUNK, GZIP_CHUNK + 1, 3 * ZSTD_CHUNK + 17] {
        let bytes = sample(length);
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let (one, info) = compress(&bytes, compression, 1);
            let (many, same) = compress(&bytes, compression, 5);
            assert_eq!((&one, info), (&many, same), "{compression:?} {length}");
            assert_eq!(info.diff_id.0, Digest::of(&bytes));
            assert_eq!(info.digest, Digest::of(&one));
            assert_eq!((info.size, info.uncompressed_size), (one.len() as u64, length as u64));
            let mut back = Vec::new();
            decompress(&one[..], compression).unwrap().read_to_end(&mut back).unwrap();
            assert!(back == bytes, "{compression:?} {length}");
        }
    }
}

#[test]
fn formats_are_known_by_their_first_bytes() {
    let bytes = sample(1000);
    let (gzip, _) = compress(&bytes, Compression::Gzip, 1);
    let (zstd, _) = compress(&bytes, Compression::Zstd, 1);
    let mut bzip2 = Vec::new();
    bzip2::read::BzEncoder::new(&bytes[..], bzip2::Compression::fast()).read_to_end(&mut bzip2).unwrap();
    let mut xz = Vec::new();
    liblzma::read::XzEncoder::new(&bytes[..], 1).read_to_end(&mut xz).unwrap();
    for (packed, codec) in [(gzip, Codec::Gzip), (zstd, Codec::Zstd), (bzip2, Codec::Bzip2), (xz, Codec::Xz)]
    {
        assert_eq!(detect(&packed), codec);
        let mut twice = packed.clone();
        twice.extend_from_slice(&packed);
        let mut back = Vec::new();
        decoder(&twice[..], codec).unwrap().read_to_end(&mut back).unwrap();
        assert_eq!(back.len(), 2 * bytes.len(), "{codec:?} of two parts");
        let cut = &packed[..packed.len() - 5];
        let read = decoder(cut, codec).unwrap().read_to_end(&mut Vec::new());
        assert!(read.is_err(), "{codec:?} cut short");
    }
    assert_eq!(detect(b"hello"), Codec::None);
    assert_eq!(detect(b""), Codec::None);
}

#[test]
fn a_failing_writer_ends_the_compression_with_its_error() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let options = CompressOptions { compression: Compression::Gzip, level: Some(1), threads: Some(2) };
    let mut compressor = Compressor::new(Full(100_000), &options).unwrap();
    let bytes = sample(1 << 20);
    let written = (0..64).try_for_each(|_| compressor.write_all(&bytes));
    let finished = compressor.finish().map(|_| ());
    assert_eq!(finished.unwrap_err().kind(), io::ErrorKind::StorageFull);
    drop(written);
}

#[test]
fn levels_that_do_not_exist_are_refused() {
    for (compression, level) in [(Compression::Gzip, 13), (Compression::Gzip, -1), (Compression::Zstd, 99)] {
        let options = CompressOptions { compression, level: Some(level), threads: None };
        let error = Compressor::new(Vec::new(), &options).unwrap_err();
        assert!(error.to_string().contains(&level.to_string()));
    }
}
