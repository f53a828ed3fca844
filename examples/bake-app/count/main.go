// Count prints the length of its version.
package main

import "fmt"

var version string

func main() { fmt.Println("count", len(version)) }
