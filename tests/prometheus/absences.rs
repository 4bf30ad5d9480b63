//! absences
