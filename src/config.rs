//! What was written becomes what is meant; refused before anything starts.
