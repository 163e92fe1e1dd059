"""Whatever works on many frames at once: processes of this machine, or a Dask cluster."""
