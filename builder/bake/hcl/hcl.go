// Package hcl reads definitions of targets in HCL and in HCL's JSON syntax, as "docker
// buildx bake" does.
//
// The evaluator is buildx's own, so expressions, functions, variables and matrices mean
// the same. Package bake has the rules of merging.
package hcl

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/docker/buildx/bake/hclparser"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"

	"github.com/cairn-build/cairn/builder/bake"
)

// Language is HCL with its JSON syntax. It implements bake.Language.
type Language struct{}

var validName = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)

// Accepts reports whether a file has a name in .hcl or .json, or parses as HCL or JSON.
func (Language) Accepts(f bake.File, _ bake.ReadOptions) (bool, error) {
	parsed, diags := parse(f)
	named := strings.HasSuffix(f.Name, ".hcl") || strings.HasSuffix(f.Name, ".json")
	switch {
	case diags.HasErrors():
		return named, problems(diags, []*hcl.File{parsed})
	case strings.HasSuffix(f.Name, ".yml") || strings.HasSuffix(f.Name, ".yaml"):
		return false, nil
	}
	return true, nil
}

// Read evaluates files and adds their targets, groups and variables to a definition.
func (Language) Read(d *bake.Definition, files []bake.File, o bake.ReadOptions) error {
	var parsed []*hcl.File
	var diags hcl.Diagnostics
	for _, f := range files {
		file, more := parse(f)
		parsed, diags = append(parsed, file), append(diags, more...)
	}
	if diags.HasErrors() {
		return problems(diags, parsed)
	}
	if list := refused(parsed); len(list) > 0 {
		return list
	}
	values := &budget{}
	for _, f := range parsed {
		values.guard(f)
	}
	content := &file{}
	for _, t := range d.Targets {
		content.Targets = append(content.Targets, fromPlain(t))
	}
	for _, g := range d.Groups {
		content.Groups = append(content.Groups, &group{Name: g.Name, Description: g.Description, Targets: g.Targets, position: g.Position})
	}
	meta, diags, err := evaluate(parsed, o, content, values)
	if err != nil {
		return err
	}
	if diags.HasErrors() {
		return problems(allErrors(parsed, o, diags, values), parsed)
	}
	d.Warnings = append(d.Warnings, unknownNames(parsed)...)
	d.Targets, d.Groups = nil, nil
	for _, t := range content.Targets {
		d.Targets = append(d.Targets, t.plain())
	}
	for _, g := range content.Groups {
		d.Groups = append(d.Groups, &bake.Group{Name: g.Name, Description: g.Description, Targets: g.Targets, Position: g.position})
	}
	addMatrixGroups(d, meta.Renamed["target"])
	noteAbsent(d, parsed)
	for _, v := range meta.AllVariables {
		d.Variables = append(d.Variables, bake.Variable(*v))
	}
	slices.SortFunc(d.Variables, func(a, b bake.Variable) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// addMatrixGroups adds a group for the label of each block whose targets have other
// names.
func addMatrixGroups(d *bake.Definition, renamed map[string][]string) {
	var groups []*bake.Group
	for label, names := range renamed {
		names = unique(names)
		if len(names) == 1 && names[0] == label {
			continue
		}
		groups = append(groups, &bake.Group{Name: label, Targets: names})
	}
	slices.SortFunc(groups, func(a, b *bake.Group) int { return strings.Compare(a.Name, b.Name) })
	d.Groups = append(d.Groups, groups...)
}

// noteAbsent notes the labels of blocks that define no target.
func noteAbsent(d *bake.Definition, files []*hcl.File) {
	d.Absent = map[string]string{}
	for _, b := range places(files) {
		if b.kind == "target" && d.Target(b.label) == nil && d.Group(b.label) == nil {
			d.Absent[b.label] = fmt.Sprintf("the matrix at %s is empty", b.Position)
		}
	}
}

func unique(names []string) (list []string) {
	for _, n := range names {
		if !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	return list
}

func parse(f bake.File) (*hcl.File, hcl.Diagnostics) {
	if diags := checkNesting(f); diags.HasErrors() {
		return nil, diags
	}
	p := hclparse.NewParser()
	switch {
	case strings.HasSuffix(f.Name, ".json"):
		return p.ParseJSON(f.Data, f.Name)
	case strings.HasSuffix(f.Name, ".hcl"):
		return p.ParseHCL(f.Data, f.Name)
	}
	file, diags := p.ParseHCL(f.Data, f.Name)
	if diags.HasErrors() {
		if file, diags := hclparse.NewParser().ParseJSON(f.Data, f.Name); !diags.HasErrors() {
			return file, nil
		}
	}
	return file, diags
}

func evaluate(files []*hcl.File, o bake.ReadOptions, content *file, values *budget) (meta *hclparser.ParseMeta, diags hcl.Diagnostics, err error) {
	// The evaluator panics on some values that have no meaning, such as a null error
	// message.
	defer func() {
		r := recover()
		if over := values.check(); over != nil {
			diags = over
		} else if r != nil {
			err = fmt.Errorf("evaluate the definition: %v", r)
		}
	}()
	*values = budget{}
	meta, diags = hclparser.Parse(hclparser.MergeFiles(files), hclparser.Opt{
		LookupVar: func(name string) (string, bool) {
			if v, ok := o.Vars[name]; ok {
				return v, true
			}
			return o.Lookup(name)
		},
		Vars: o.Builtins,
		ValidateLabel: func(name string) error {
			if !validName.MatchString(name) {
				return errors.New("a name may only have letters, digits, _ and -")
			}
			return nil
		},
	}, content)
	return meta, diags, nil
}
