// Greet prints its version.
package main

import "fmt"

var version string

func main() { fmt.Println("greet", version) }
