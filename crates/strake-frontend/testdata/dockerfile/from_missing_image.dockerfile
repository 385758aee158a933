FROM nowhere/at:all
