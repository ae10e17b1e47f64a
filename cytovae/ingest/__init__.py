"""Raw screens to cells: layouts, images, nuclei, illumination, assembly."""
