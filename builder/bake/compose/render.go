package compose

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/compose-spec/compose-go/v2/template"
	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"
)

// Select restricts the project to the named services and those they depend on, and
// enables their profiles. Without names it keeps the enabled services. It drops the
// networks, volumes, secrets and configs that no service uses, unless all is set.
func (p *Project) Select(names []string, all bool) error {
	model, err := p.model.WithServicesEnabled(names...)
	if err == nil {
		model, err = model.WithSelectedServices(names)
	}
	if err != nil {
		return p.places.explain(context.Background(), err, nil)
	}
	if !all {
		model = model.WithoutUnnecessaryResources()
	}
	p.model = model
	return nil
}

// ResolveEnvironment reads the files of env_file into the environment of the services.
func (p *Project) ResolveEnvironment() (err error) {
	p.model, err = p.model.WithServicesEnvironmentResolved(true)
	return p.places.explain(context.Background(), err, nil)
}

// CheckContainerNames returns an error if two services have the same container name.
func (p *Project) CheckContainerNames() error {
	return p.places.explain(context.Background(), p.model.CheckContainerNameUnicity(), nil)
}

// Marshal returns the project in the canonical form of a Compose file. Dollar signs are
// doubled, so that the text stands for the same project.
func (p *Project) Marshal(asJSON bool) (text []byte, err error) {
	if asJSON {
		text, err = p.model.MarshalJSON()
	}
	if !asJSON || err != nil {
		text, err = p.model.MarshalYAML()
	}
	if asJSON && err == nil && !json.Valid(text) { // compose-go cannot encode ssh keys with a path
		var model any
		if err = yaml.Unmarshal(text, &model); err == nil {
			text, err = MarshalModel(model, true)
		}
	}
	return bytes.ReplaceAll(text, []byte("$"), []byte("$$")), err
}

// MarshalModel returns a tree of YAML values as text.
func MarshalModel(model any, asJSON bool) ([]byte, error) {
	if asJSON {
		return json.MarshalIndent(model, "", "  ")
	}
	var text bytes.Buffer
	e := yaml.NewEncoder(&text)
	e.SetIndent(2)
	err := e.Encode(model)
	return text.Bytes(), err
}

// Images returns the names of the images of the services, sorted by the names of the
// services.
func (p *Project) Images() (list []string) {
	for _, name := range p.model.ServiceNames() {
		s := p.model.Services[name]
		list = append(list, p.image(s))
		for _, hook := range s.PreStart {
			if hook.Image != "" && hook.Image != p.image(s) {
				list = append(list, hook.Image)
			}
		}
	}
	return list
}

// image returns the name of a service's image.
func (p *Project) image(s types.ServiceConfig) string {
	if s.Image != "" {
		return s.Image
	}
	return p.model.Name + p.separator + s.Name
}

// Volumes returns the names of the volumes, sorted.
func (p *Project) Volumes() []string { return p.model.VolumeNames() }

// Networks returns the names of the networks, sorted.
func (p *Project) Networks() []string { return p.model.NetworkNames() }

// Models returns the names of the AI models, sorted.
func (p *Project) Models() (list []string) {
	for _, m := range p.model.Models {
		if m.Model != "" {
			list = append(list, m.Model)
		}
	}
	slices.Sort(list)
	return list
}

// Environment returns the variables of the project as NAME=VALUE, sorted.
func (p *Project) Environment() []string {
	return slices.Sorted(slices.Values(p.model.Environment.Values()))
}

// Variable is a variable that a project uses.
type Variable struct {
	Name      string
	Default   string // of ${NAME:-default}
	Alternate string // of ${NAME:+alternate}
	Required  bool   // as in ${NAME:?message}
}

// Variables returns the variables that the model of LoadModel without interpolation
// uses, sorted by their names.
func Variables(model map[string]any) (list []Variable) {
	found := template.ExtractVariables(model, template.DefaultPattern)
	for _, name := range slices.Sorted(maps.Keys(found)) {
		v := found[name]
		list = append(list, Variable{Name: name, Default: v.DefaultValue, Alternate: v.PresenceValue, Required: v.Required})
	}
	return list
}

// ServicesOf returns the names of the services of a model, sorted.
func ServicesOf(model map[string]any) []string {
	services, ok := model["services"].(map[string]any)
	if !ok {
		return nil
	}
	return slices.Sorted(maps.Keys(services))
}
