// Package export assembles the images of a build (config, manifest, index) and writes
// them to their outputs: the store, registries and files.
package export

import (
	"io"

	"github.com/cairn-build/cairn/layer/atomicfile"
)

// WriteFile writes an archive to a file, which appears when it is complete, where it
// can be replaced. The path "-" means stdout. Links, devices and pipes are written to.
func WriteFile(path string, stdout io.Writer, write func(io.Writer) error) error {
	if path == "-" {
		return write(stdout)
	}
	return atomicfile.Output(path, write)
}
