//! The OCI image layout, as a folder and as a tar (R-EXPORT-1..3).
