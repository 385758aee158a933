//! Go text templates with the Sprig functions.
