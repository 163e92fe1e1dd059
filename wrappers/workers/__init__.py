"""Workers that find peaks and index: processes of this machine, or a Dask cluster."""
