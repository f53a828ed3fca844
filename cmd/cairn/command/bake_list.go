package command

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/tonistiigi/go-csvvalue"

	"github.com/cairn-build/cairn/builder/bake"
)

// bakeList is a value of bake --list.
type bakeList struct {
	kind   string // targets or variables
	format string // table or json
}

// parseBakeList parses targets, variables, or type=TYPE, with format=json or
// format=table.
func parseBakeList(text string) (bakeList, error) {
	l := bakeList{format: "table"}
	fields, err := csvvalue.Fields(text, nil)
	if err != nil {
		return l, err
	}
	for i, field := range fields {
		key, value, ok := strings.Cut(field, "=")
		switch {
		case i == 0 && !ok:
			l.kind = field
		case key == "type":
			l.kind = value
		case key == "format":
			l.format = value
		default:
			return l, fmt.Errorf("unexpected %q: want targets or variables, and format=json or format=table", field)
		}
	}
	if l.kind != "targets" && l.kind != "variables" {
		return l, fmt.Errorf("invalid type %q: want targets or variables", l.kind)
	}
	if l.format != "table" && l.format != "json" {
		return l, fmt.Errorf("invalid format %q: want table or json", l.format)
	}
	return l, nil
}

// bakeTarget is a line of the list of targets.
type bakeTarget struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Group       bool   `json:"group,omitempty"`
}

func (l bakeList) write(w io.Writer, d *bake.Definition) error {
	targets := bakeTargets(d)
	switch {
	case l.format == "json" && l.kind == "targets":
		return writeJSON(w, targets)
	case l.format == "json":
		return writeJSON(w, d.Variables)
	}
	table := tabwriter.NewWriter(w, 1, 8, 1, '\t', 0)
	if l.kind == "targets" {
		fmt.Fprint(table, "TARGET\tDESCRIPTION\n")
		for _, t := range targets {
			fmt.Fprintf(table, "%s\t%s\n", t.Name, t.Description)
		}
		return table.Flush()
	}
	fmt.Fprint(table, "VARIABLE\tTYPE\tVALUE\tDESCRIPTION\n")
	for _, v := range d.Variables {
		value := "<null>"
		if v.Value != nil {
			value = *v.Value
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", v.Name, v.Type, value, v.Description)
	}
	return table.Flush()
}

// bakeTargets returns the targets and groups, sorted by name, without those whose names
// begin with _.
func bakeTargets(d *bake.Definition) (list []bakeTarget) {
	for _, t := range d.Targets {
		list = append(list, bakeTarget{Name: t.Name, Description: t.Description})
	}
	for _, g := range d.Groups {
		members := strings.Join(slices.Sorted(slices.Values(g.Targets)), ", ")
		if g.Description != "" && members != "" {
			members = g.Description + " (" + members + ")"
		} else if members == "" {
			members = g.Description
		}
		list = append(list, bakeTarget{Name: g.Name, Description: members, Group: true})
	}
	list = slices.DeleteFunc(list, func(t bakeTarget) bool { return strings.HasPrefix(t.Name, "_") })
	slices.SortStableFunc(list, func(a, b bakeTarget) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// writeJSON writes a value as indented JSON.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
