"""Rules of an interval: averages of derivatives that make attributions complete by construction."""
