//! Blobs, layers, index and garbage collection on local disk.
