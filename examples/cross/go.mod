module cross

go 1.26
