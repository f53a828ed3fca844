package sbom

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

// WriteTable writes a table for people.
func WriteTable(w io.Writer, img *Image) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tVERSION\tTYPE\tLAYER\tLICENSE")
	for i := range img.Packages {
		p := &img.Packages[i]
		var layers []string
		for _, l := range p.layers() {
			layers = append(layers, strconv.Itoa(l+1))
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", dash(p.Name), dash(p.Version), p.Type, strings.Join(layers, ","), dash(p.License))
	}
	return t.Flush()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}
