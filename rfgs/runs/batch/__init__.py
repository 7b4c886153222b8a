"""Many assets from one command: what they are (`plan`), where they are made (`places`), by whom (`worker`) and in which order
(`local`, `on_ray`), and what is made of them in the end (`best`, `page`)."""
