"""Reports of how words are used: of one TERMS folder, and of scans or TERMS folders before and after."""
