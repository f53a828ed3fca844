// Hello is the program of the smallest image: one static file and nothing else.
package main

import (
	"fmt"
	"runtime"
)

func main() {
	fmt.Printf("Hello from an image made of one file, on %s/%s.\n", runtime.GOOS, runtime.GOARCH)
}
