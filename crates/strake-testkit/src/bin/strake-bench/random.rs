//! Content of files.

/// A small generator (xorshift): the same content in every run of the bench.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 ^ (self.0 >> 29)).rotate_left(17)
    }

    /// First half random bytes, second half words that compress like text.
    pub(crate) fn fill(&mut self, content: &mut [u8]) {
        const WORDS: [&[u8]; 16] = [
            b"layer ",
            b"digest ",
            b"stage ",
            b"copy ",
            b"manifest ",
            b"config ",
            b"the ",
            b"of ",
            b"and ",
            b"blob\n",
            b"registry ",
            b"step ",
            b"to ",
            b"signature ",
            b"file ",
            b"is\n",
        ];
        let half = content.len() / 2;
        for chunk in content[..half].chunks_mut(8) {
            let bytes = self.next().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
        let mut at = half;
        while at < content.len() {
            let word = WORDS[(self.next() % 16) as usize];
            let length = word.len().min(content.len() - at);
            content[at..at + length].copy_from_slice(&word[..length]);
            at += length;
        }
    }
}
