// Command migrate is a job that ends.
package main

import "fmt"

var version, license string

func main() { fmt.Printf("migrated to %s under the %s\n", version, license) }
