"""Operating system: files, paths, processes, downloads, devices and progress."""
