package hcl

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/cairn-build/cairn/builder/bake"
)

// file is the content of all files. The evaluator fills it by its tags.
type file struct {
	Groups  []*group  `hcl:"group,block" cty:"group"`
	Targets []*target `hcl:"target,block" cty:"target"`
}

type group struct {
	Name        string   `hcl:"name,label" cty:"name"`
	Description string   `hcl:"description,optional" cty:"description"`
	Targets     []string `hcl:"targets" cty:"targets"`

	position bake.Position
}

type target struct {
	Name        string `hcl:"name,label" cty:"name"`
	Description string `hcl:"description,optional" cty:"description"`

	Inherits         []string           `hcl:"inherits,optional" cty:"inherits"`
	Annotations      []string           `hcl:"annotations,optional" cty:"annotations"`
	Attest           attests            `hcl:"attest,optional" cty:"attest"`
	Context          *string            `hcl:"context,optional" cty:"context"`
	Contexts         map[string]string  `hcl:"contexts,optional" cty:"contexts"`
	Dockerfile       *string            `hcl:"dockerfile,optional" cty:"dockerfile"`
	DockerfileInline *string            `hcl:"dockerfile-inline,optional" cty:"dockerfile-inline"`
	Args             map[string]*string `hcl:"args,optional" cty:"args"`
	Labels           map[string]*string `hcl:"labels,optional" cty:"labels"`
	Tags             []string           `hcl:"tags,optional" cty:"tags"`
	CacheFrom        caches             `hcl:"cache-from,optional" cty:"cache-from"`
	CacheTo          caches             `hcl:"cache-to,optional" cty:"cache-to"`
	Stage            *string            `hcl:"target,optional" cty:"target"`
	Secrets          secrets            `hcl:"secret,optional" cty:"secret"`
	SSH              agents             `hcl:"ssh,optional" cty:"ssh"`
	Platforms        []string           `hcl:"platforms,optional" cty:"platforms"`
	Outputs          outputs            `hcl:"output,optional" cty:"output"`
	Pull             *bool              `hcl:"pull,optional" cty:"pull"`
	NoCache          *bool              `hcl:"no-cache,optional" cty:"no-cache"`
	Network          *string            `hcl:"network,optional" cty:"network"`
	NoCacheFilter    []string           `hcl:"no-cache-filter,optional" cty:"no-cache-filter"`
	ShmSize          *string            `hcl:"shm-size,optional" cty:"shm-size"`
	Ulimits          []string           `hcl:"ulimits,optional" cty:"ulimits"`
	Resources        *resources         `hcl:"resources,optional" cty:"resources"`
	Call             *string            `hcl:"call,optional" cty:"call"`
	Entitlements     []string           `hcl:"entitlements,optional" cty:"entitlements"`
	ExtraHosts       map[string]*string `hcl:"extra-hosts,optional" cty:"extra-hosts"`

	positions map[string]bake.Position
	bases     bake.Bases
}

// plain returns the target without the types of the evaluator.
func (t *target) plain() *bake.Target {
	return &bake.Target{
		Name: t.Name, Description: t.Description, Inherits: t.Inherits, Annotations: t.Annotations, Attest: t.Attest,
		Context: t.Context, Contexts: t.Contexts, Dockerfile: t.Dockerfile, DockerfileInline: t.DockerfileInline,
		Args: t.Args, Labels: t.Labels, Tags: t.Tags, CacheFrom: t.CacheFrom, CacheTo: t.CacheTo, Stage: t.Stage,
		Secrets: t.Secrets, SSH: t.SSH, Platforms: t.Platforms, Outputs: t.Outputs, Pull: t.Pull, NoCache: t.NoCache,
		Network: t.Network, NoCacheFilter: t.NoCacheFilter, ShmSize: t.ShmSize, Ulimits: t.Ulimits,
		Resources: (*bake.Resources)(t.Resources), Call: t.Call, Entitlements: t.Entitlements, ExtraHosts: t.ExtraHosts,
		Positions: t.positions, Bases: t.bases,
	}
}

func fromPlain(t *bake.Target) *target {
	return &target{
		Name: t.Name, Description: t.Description, Inherits: t.Inherits, Annotations: t.Annotations, Attest: t.Attest,
		Context: t.Context, Contexts: t.Contexts, Dockerfile: t.Dockerfile, DockerfileInline: t.DockerfileInline,
		Args: t.Args, Labels: t.Labels, Tags: t.Tags, CacheFrom: t.CacheFrom, CacheTo: t.CacheTo, Stage: t.Stage,
		Secrets: t.Secrets, SSH: t.SSH, Platforms: t.Platforms, Outputs: t.Outputs, Pull: t.Pull, NoCache: t.NoCache,
		Network: t.Network, NoCacheFilter: t.NoCacheFilter, ShmSize: t.ShmSize, Ulimits: t.Ulimits,
		Resources: (*resources)(t.Resources), Call: t.Call, Entitlements: t.Entitlements, ExtraHosts: t.ExtraHosts,
		positions: t.Positions, bases: t.Bases,
	}
}

// Merge adds a later block of the same name. The evaluator calls it.
func (t *target) Merge(later *target) {
	merged := t.plain()
	merged.Merge(later.plain())
	*t = *fromPlain(merged)
}

// SetBlockSource records the places of the attributes. The evaluator calls it.
func (t *target) SetBlockSource(block *hcl.Block) {
	t.positions = map[string]bake.Position{"": position(block.DefRange)}
	attributes, _ := block.Body.JustAttributes() // the evaluator reports the errors
	for name, a := range attributes {
		t.positions[name] = position(a.NameRange)
	}
	if file := block.DefRange.Filename; file != "-" && !bake.IsRemote(file) {
		t.setBases(filepath.Dir(file), attributes)
	}
}

func (t *target) setBases(dir string, attributes hcl.Attributes) {
	t.bases.Default = &dir
	if a, ok := attributes["context"]; ok {
		t.bases.Context, t.bases.ContextOf = &dir, contextOf(a.Expr)
	}
	t.bases.Contexts = map[string]string{}
	for name := range t.Contexts {
		t.bases.Contexts[name] = dir
	}
}

// contextOf returns the name in an expression of the form target.NAME.context, or "".
func contextOf(e hcl.Expression) string {
	path, diags := hcl.AbsTraversalForExpr(e)
	if diags.HasErrors() || len(path) != 3 || path.RootName() != "target" {
		return ""
	}
	if a, ok := path[2].(hcl.TraverseAttr); !ok || a.Name != "context" {
		return ""
	}
	switch step := path[1].(type) {
	case hcl.TraverseAttr:
		return step.Name
	case hcl.TraverseIndex:
		if step.Key.Type() == cty.String {
			return stringOf(step.Key)
		}
	}
	return ""
}

// GetEvalContexts returns an evaluation context for each combination of the matrix. The
// evaluator calls it.
func (*target) GetEvalContexts(base *hcl.EvalContext, block *hcl.Block, load func(hcl.Expression) hcl.Diagnostics) ([]*hcl.EvalContext, error) {
	a, err := attribute(block, "matrix")
	if a == nil || err != nil {
		return []*hcl.EvalContext{base}, err
	}
	if diags := load(a.Expr); diags.HasErrors() {
		return nil, diags
	}
	matrix, diags := a.Expr.Value(base)
	if diags.HasErrors() {
		return nil, diags
	}
	if t := matrix.Type(); !t.IsMapType() && !t.IsObjectType() || matrix.IsNull() {
		return nil, fault(a, "matrix must be a map of lists")
	}
	contexts, axes := []*hcl.EvalContext{base}, matrix.AsValueMap()
	if err := checkCombinations(a, axes); err != nil {
		return nil, err
	}
	for _, axis := range slices.Sorted(maps.Keys(axes)) {
		if axes[axis].IsNull() || !axes[axis].CanIterateElements() {
			return nil, fault(a, fmt.Sprintf("matrix must be a map of lists: %s is none", axis))
		}
		var more []*hcl.EvalContext
		for _, value := range axes[axis].AsValueSlice() {
			for _, c := range contexts {
				child := base.NewChild()
				child.Variables = map[string]cty.Value{}
				if c != base {
					maps.Copy(child.Variables, c.Variables)
				}
				child.Variables[axis] = value
				more = append(more, child)
			}
		}
		contexts = more
	}
	return contexts, nil
}

// GetName returns the name of a target in an evaluation context. The evaluator calls it.
func (*target) GetName(c *hcl.EvalContext, block *hcl.Block, load func(hcl.Expression) hcl.Diagnostics) (string, error) {
	a, err := attribute(block, "name")
	if a == nil || err != nil {
		return block.Labels[0], err
	}
	switch matrix, err := attribute(block, "matrix"); {
	case err != nil:
		return "", err
	case matrix == nil:
		return "", fault(a, "name requires matrix")
	}
	if diags := load(a.Expr); diags.HasErrors() {
		return "", diags
	}
	v, diags := a.Expr.Value(c)
	if diags.HasErrors() {
		return "", diags
	}
	v, err = convert.Convert(v, cty.String)
	switch {
	case err != nil:
		return "", fault(a, err.Error())
	case v.IsNull() || !v.IsKnown():
		return "", fault(a, "name is null")
	}
	return v.AsString(), nil
}

// GetEvalContexts refuses a matrix. The evaluator calls it.
func (*group) GetEvalContexts(base *hcl.EvalContext, block *hcl.Block, _ func(hcl.Expression) hcl.Diagnostics) ([]*hcl.EvalContext, error) {
	a, err := attribute(block, "matrix")
	if a != nil {
		err = fault(a, "matrix is not supported for groups")
	}
	return []*hcl.EvalContext{base}, err
}

// GetName returns the label of the block. The evaluator calls it.
func (*group) GetName(_ *hcl.EvalContext, block *hcl.Block, _ func(hcl.Expression) hcl.Diagnostics) (string, error) {
	a, err := attribute(block, "name")
	if a != nil {
		err = fault(a, "name is not supported for groups")
	}
	return block.Labels[0], err
}

// SetBlockSource records the place of the group. The evaluator calls it.
func (g *group) SetBlockSource(block *hcl.Block) { g.position = position(block.DefRange) }

// attribute returns an attribute of a block, or nil.
func attribute(block *hcl.Block, name string) (*hcl.Attribute, error) {
	content, _, diags := block.Body.PartialContent(&hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: name}}})
	if diags.HasErrors() {
		return nil, diags
	}
	return content.Attributes[name], nil
}

func fault(a *hcl.Attribute, text string) error {
	return hcl.Diagnostics{{Severity: hcl.DiagError, Summary: text, Subject: &a.NameRange}}
}

func position(r hcl.Range) bake.Position {
	return bake.Position{File: r.Filename, Line: r.Start.Line, Column: r.Start.Column}
}
