// Api prints its version.
package main

import "os"

var version = "dev"

func main() { os.Stdout.WriteString("api " + version + "\n") }
