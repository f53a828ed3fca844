package javascript

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/cairn-build/cairn/builder/generate/manifest"
	"github.com/cairn-build/cairn/builder/generate/survey"
)

var nextOutput = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\boutput\s*:\s*["'](standalone|export)["']`) })

// framework recognises the framework of a package.
func (s *project) framework(dir string, pkg manifest.Document, m packageManager) framework {
	deps := dependencies(pkg)
	file := path.Join(dir, "package.json")
	w := s.metaFramework(dir, deps)
	if w.name == "" {
		w = s.siteFramework(dir, pkg, deps)
	}
	if w.name != "" {
		s.Found(file, "%s", w.name)
	}
	if w.static != "" {
		s.Found(file, "static files in %s, served by nginx", survey.Display(w.static))
		return w
	}
	if w.name == "" {
		for _, server := range []struct{ dependency, name string }{
			{"@nestjs/core", "NestJS"}, {"express", "Express"}, {"fastify", "Fastify"}, {"hono", "Hono"}, {"koa", "Koa"}, {"@hapi/hapi", "hapi"},
		} {
			if slices.Contains(deps, server.dependency) {
				s.Found(file, "%s", server.name)
				break
			}
		}
		w.modules = true
	}
	if w.command == nil {
		w.command = s.startCommand(dir, pkg, m)
	}
	return w
}

// metaFramework recognises frameworks that survey.Render on a server.
func (s *project) metaFramework(dir string, deps []string) framework {
	config := func(stem string) string {
		return s.Tree.Text(s.Tree.First(path.Join(dir, stem+".js"), path.Join(dir, stem+".mjs"), path.Join(dir, stem+".ts"), path.Join(dir, stem+".cjs")))
	}
	optional := func(names ...string) (list []string) {
		for _, name := range names {
			if at := path.Join(dir, name); s.Tree.Has(at) || s.Tree.HasDir(at) {
				list = append(list, name)
			}
		}
		return list
	}
	host := []string{"HOSTNAME=0.0.0.0"}
	switch {
	case slices.Contains(deps, "next"):
		if m := nextOutput().FindStringSubmatch(config("next.config")); m != nil && m[1] == "export" {
			return framework{name: "Next.js with output export", static: "out"}
		} else if m != nil {
			place := ".next/static"
			if dir != "." {
				place = dir + "/.next/static"
			}
			outputs := []string{".next/standalone::./", ".next/static::./" + place}
			if s.Tree.HasDir(path.Join(dir, "public")) {
				outputs = append(outputs, "public::./"+path.Join(dir, "public"))
			}
			return framework{name: "Next.js with output standalone", outputs: outputs, command: survey.Exec{"node", path.Join(dir, "server.js")}, port: 3000, env: host}
		}
		return framework{
			name: "Next.js", modules: true, port: 3000, env: host, command: survey.Exec{"node_modules/.bin/next", "start"},
			outputs: append([]string{"node_modules", "package.json", ".next"}, optional("public", "next.config.js", "next.config.mjs")...),
			tip:     `# output: "standalone" in next.config.js makes this image much smaller.`,
		}
	case slices.Contains(deps, "nuxt"):
		return framework{name: "Nuxt", outputs: []string{".output"}, command: survey.Exec{"node", ".output/server/index.mjs"}, port: 3000, env: []string{"HOST=0.0.0.0"}}
	case survey.HasAny(deps, "@tanstack/react-start", "@tanstack/start", "@solidjs/start", "vinxi"):
		return framework{name: "TanStack Start or SolidStart", outputs: []string{".output"}, command: survey.Exec{"node", ".output/server/index.mjs"}, port: 3000, env: []string{"HOST=0.0.0.0"}}
	case survey.HasAny(deps, "@remix-run/serve"):
		return framework{name: "Remix", modules: true, port: 3000, outputs: append([]string{"node_modules", "package.json", "build"}, optional("public")...), command: survey.Exec{"node_modules/.bin/remix-serve", "./build/server/index.js"}}
	case survey.HasAny(deps, "@react-router/serve"):
		return framework{name: "React Router", modules: true, port: 3000, outputs: []string{"node_modules", "package.json", "build"}, command: survey.Exec{"node_modules/.bin/react-router-serve", "./build/server/index.js"}}
	case slices.Contains(deps, "@sveltejs/adapter-node"):
		return framework{name: "SvelteKit with adapter-node", modules: true, port: 3000, outputs: []string{"node_modules", "package.json", "build"}, command: survey.Exec{"node", "build"}}
	case slices.Contains(deps, "@sveltejs/adapter-static"):
		return framework{name: "SvelteKit with adapter-static", static: "build"}
	case slices.Contains(deps, "@sveltejs/kit"):
		s.Warn("SvelteKit without @sveltejs/adapter-node or adapter-static makes no server for an image: add one of them")
		return framework{name: "SvelteKit", modules: true, port: 3000, outputs: []string{"node_modules", "package.json", "build"}, command: survey.Exec{"node", "build"}}
	case slices.Contains(deps, "@astrojs/node"):
		return framework{name: "Astro with the Node.js adapter", modules: true, port: 4321, env: []string{"HOST=0.0.0.0"}, outputs: []string{"node_modules", "package.json", "dist"}, command: survey.Exec{"node", "dist/server/entry.mjs"}}
	case slices.Contains(deps, "astro"):
		return framework{name: "Astro", static: "dist"}
	case slices.Contains(deps, "@nestjs/core") && s.Tree.Has(path.Join(dir, "nest-cli.json")):
		return framework{}
	}
	return framework{}
}

// siteFramework recognises tools that write a site of static files.
func (s *project) siteFramework(dir string, pkg manifest.Document, deps []string) framework {
	server := survey.HasAny(pkg.Keys("dependencies"), "express", "fastify", "hono", "koa", "@nestjs/core")
	router := survey.HasAny(deps, "react-router", "react-router-dom", "vue-router", "@angular/router", "@tanstack/react-router", "wouter", "svelte-spa-router", "@solidjs/router", "preact-router")
	switch {
	case survey.HasAny(deps, "@angular/cli", "@angular/build", "@angular-devkit/build-angular") && !survey.HasAny(deps, "@angular/ssr"):
		return framework{name: "Angular", static: s.angularOutput(dir), spa: router}
	case slices.Contains(deps, "@angular/ssr"):
		name := path.Base(s.angularProject(dir))
		return framework{name: "Angular with server-side rendering", outputs: []string{"dist"}, command: survey.Exec{"node", "dist/" + name + "/server/server.mjs"}, port: 4000}
	case server:
		return framework{}
	case slices.Contains(deps, "react-scripts"):
		return framework{name: "Create React App", static: "build", spa: router}
	case slices.Contains(deps, "@vue/cli-service"):
		return framework{name: "Vue CLI", static: "dist", spa: router}
	case slices.Contains(deps, "gatsby"):
		return framework{name: "Gatsby", static: "public"}
	case slices.Contains(deps, "@docusaurus/core"):
		return framework{name: "Docusaurus", static: "build"}
	case slices.Contains(deps, "@11ty/eleventy"):
		return framework{name: "Eleventy", static: "_site"}
	case slices.Contains(deps, "vitepress"):
		return framework{name: "VitePress", static: s.vitepressOutput(dir)}
	case slices.Contains(deps, "vite"):
		return framework{name: "Vite", static: s.viteOutput(dir), spa: router}
	case slices.Contains(deps, "parcel") && s.Tree.Has(path.Join(dir, "src/index.html")):
		return framework{name: "Parcel", static: "dist", spa: router}
	}
	return framework{}
}

var viteOut = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\boutDir\s*:\s*["']([A-Za-z0-9._/-]+)["']`) })

func (s *project) viteOutput(dir string) string {
	for _, name := range []string{"vite.config.ts", "vite.config.js", "vite.config.mts", "vite.config.mjs"} {
		if m := viteOut().FindStringSubmatch(s.Tree.Text(path.Join(dir, name))); m != nil {
			return path.Clean(m[1])
		}
	}
	return "dist"
}

func (s *project) vitepressOutput(dir string) string {
	if s.Tree.HasDir(path.Join(dir, "docs/.vitepress")) {
		return "docs/.vitepress/dist"
	}
	return ".vitepress/dist"
}

// angularProject returns the name of the first project in angular.json.
func (s *project) angularProject(dir string) string {
	d := s.Document(path.Join(dir, "angular.json"), manifest.JSON)
	if name := d.String("defaultProject"); name != "" {
		return name
	}
	for _, name := range d.Keys("projects") {
		if d.String("projects", name, "projectType") != "library" {
			return name
		}
	}
	return "app"
}

// angularOutput returns the directory of the files for browsers.
func (s *project) angularOutput(dir string) string {
	d := s.Document(path.Join(dir, "angular.json"), manifest.JSON)
	name := s.angularProject(dir)
	build := d.Object("projects", name, "architect", "build")
	out := build.String("options", "outputPath")
	if base := build.String("options", "outputPath", "base"); base != "" {
		out = base
	}
	if out == "" {
		out = "dist/" + name
	}
	if builder := build.String("builder"); strings.HasSuffix(builder, ":application") {
		return path.Join(out, "browser")
	}
	return out
}
