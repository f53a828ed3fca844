package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"

	"github.com/cairn-build/cairn/builder"
)

// boundFlag reads limits of what comes from elsewhere.
func boundFlag(f *pflag.FlagSet, to *builder.Limits) {
	eachVar(f, "limit", "", "NAME=N", "bound what comes from elsewhere: layer-entries, layer-size, layer-ratio or download-size", func(s string) error {
		name, text, ok := strings.Cut(s, "=")
		if !ok {
			return errors.New("want NAME=N, as in layer-size=10g")
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil && strings.HasSuffix(name, "-size") {
			n, err = units.RAMInBytes(text)
		}
		if err != nil {
			return fmt.Errorf("%s: want a whole number, or for sizes one as 10g", name)
		}
		return to.Set(name, n)
	})
}
