"""Operating system layer: files, paths, processes, downloads, devices and progress."""
