"""The Explore page: the path from a control cell to a treated one."""
