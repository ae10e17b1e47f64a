"""Raw screens to cells: layouts, images, nuclei, patches, and a simulated screen."""
