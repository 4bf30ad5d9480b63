//! Reads SLIs; a file a provider.
