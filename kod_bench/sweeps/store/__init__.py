"""Where a sweep is: on a disk or an object store, held by one driver, told to stop."""
