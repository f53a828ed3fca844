package javascript

import (
	"github.com/cairn-build/cairn/builder/generate/manifest"
	"github.com/cairn-build/cairn/builder/generate/survey"
)

// Assets is a stage in front that builds the files for browsers of an application in
// another language.
type Assets struct {
	nodeFile
}

// NewAssets returns the stage for a package.json with a script build, or nil.
func NewAssets(in *survey.Survey) *Assets {
	s := &project{in}
	if !s.Tree.Has("package.json") {
		return nil
	}
	pkg := s.Document("package.json", manifest.JSON)
	if pkg.String("scripts", "build") == "" {
		return nil
	}
	m := s.findPackageManager(".", pkg)
	if m.name == "bun" {
		s.Warn("the assets of package.json are built by bun, for which no stage is written")
		return nil
	}
	a := &Assets{}
	version := s.nodeVersion(".", pkg)
	a.Image = "node:" + version + "-bookworm-slim"
	a.Setup, a.Cache, a.Install = m.setup(version), m.cache(), m.install()
	a.Manifests = s.nodeManifests(pkg, m, nil)
	_, a.Early = s.earlyScripts(".", pkg)
	a.Build = survey.Command("%s run build", m.name)
	a.Args = s.buildArgs(".")
	s.Found("package.json", "assets by the script build, in a stage in front")
	return a
}
