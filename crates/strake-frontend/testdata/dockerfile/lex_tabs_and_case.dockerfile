	from scratch
  Run a
 run b
