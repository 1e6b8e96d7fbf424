//! Figures for the record; run with `--run-ignored only --release --no-capture`.
