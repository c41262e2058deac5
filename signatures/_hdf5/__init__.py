"""HDF5: the parts of the format that `signatures.hdf5` walks, a module each."""
