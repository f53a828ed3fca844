package java

import (
	"cmp"
	"path"
	"strings"

	"github.com/cairn-build/cairn/builder/generate/manifest"
	"github.com/cairn-build/cairn/builder/generate/survey"
)

// mavenModules reads the pom.xml of the root and of its modules.
func (s *project) mavenModules() (modules []javaModule) {
	queue := []string{"."}
	inherited := map[string]*manifest.Element{} // the parent's pom by directory
	seen := map[string]bool{}
	for len(queue) > 0 && len(seen) < 200 {
		dir := queue[0]
		if queue = queue[1:]; seen[dir] || strings.HasPrefix(dir, "..") {
			continue
		}
		seen[dir] = true
		file := path.Join(dir, "pom.xml")
		text, err := s.Tree.Read(file)
		if err != nil {
			s.Err = survey.FirstError(s.Err, err)
			return nil
		}
		pom, err := manifest.XML(text)
		if err != nil {
			s.Parsed(file, err)
			return nil
		}
		if list := pom.Child("modules"); list != nil {
			for _, m := range list.Children {
				child := path.Join(dir, strings.TrimSuffix(m.Text, "/pom.xml"))
				inherited[child] = pom
				queue = append(queue, child)
			}
		}
		if pom.Get("packaging") == "pom" {
			if java := mavenJava(pom, nil); java != "" {
				modules = append(modules, javaModule{dir: dir, file: file, java: java})
			}
			continue
		}
		modules = append(modules, s.mavenModule(dir, file, pom, inherited[dir]))
	}
	return modules
}

// mavenModule reads the facts of one module.
func (s *project) mavenModule(dir, file string, pom, parent *manifest.Element) javaModule {
	m := javaModule{dir: dir, file: file, name: pom.Get("artifactId"), java: mavenJava(pom, parent)}
	for _, p := range []*manifest.Element{pom, parent} {
		if p == nil {
			continue
		}
		if p.Get("parent", "artifactId") == "spring-boot-starter-parent" && m.spring == "" {
			m.spring = cmp.Or(p.Get("parent", "version"), "?")
		}
		for _, d := range p.All("dependency") {
			name := d.Get("groupId") + ":" + d.Get("artifactId")
			if p == pom {
				m.dependencies = append(m.dependencies, name)
			}
			if name == "org.springframework.boot:spring-boot-dependencies" && m.spring == "" {
				m.spring = cmp.Or(property(d.Get("version"), pom, parent), "?")
			}
		}
	}
	repackaged := false
	if build := pom.Child("build", "plugins"); build != nil {
		for _, p := range build.Children {
			switch p.Get("artifactId") {
			case "spring-boot-maven-plugin":
				repackaged = true
			case "quarkus-maven-plugin":
				m.quarkus = true
			case "maven-shade-plugin", "maven-assembly-plugin":
				m.shaded = true
			}
			for _, main := range p.All("mainClass") {
				m.mainClass = cmp.Or(m.mainClass, property(main.Text, pom, parent))
			}
		}
	}
	switch {
	case !repackaged:
		m.spring = ""
	case m.spring == "":
		m.spring = "?"
	}
	if m.mainClass = cmp.Or(m.mainClass, pom.Get("properties", "exec.mainClass")); m.mainClass == "" && !m.app() {
		m.mainClass = s.findMain(dir)
	}
	return m
}

// mavenJava returns the version of Java in a pom.xml or its parent's.
func mavenJava(pom, parent *manifest.Element) string {
	for _, p := range []*manifest.Element{pom, parent} {
		if p == nil {
			continue
		}
		for _, name := range []string{"maven.compiler.release", "java.version", "maven.compiler.target", "maven.compiler.source", "jdk.version"} {
			if v := property(p.Get("properties", name), pom, parent); v != "" {
				return strings.TrimPrefix(v, "1.")
			}
		}
		for _, plugin := range p.All("plugin") {
			if plugin.Get("artifactId") == "maven-compiler-plugin" {
				c := plugin.Child("configuration")
				if v := property(cmp.Or(c.Get("release"), c.Get("target")), pom, parent); v != "" {
					return strings.TrimPrefix(v, "1.")
				}
			}
		}
	}
	return ""
}

// property replaces a text that is one reference to a property by its value.
func property(text string, poms ...*manifest.Element) string {
	for range 10 {
		name, ok := strings.CutPrefix(text, "${")
		if !ok {
			return text
		}
		name, text = strings.TrimSuffix(name, "}"), ""
		for _, p := range poms {
			if p != nil && text == "" {
				text = p.Get("properties", name)
			}
		}
	}
	return ""
}

// gradleModules reads the build files of the root and of the included projects.
func (s *project) gradleModules() (modules []javaModule) {
	settings := s.Tree.First("settings.gradle.kts", "settings.gradle")
	name, projects := manifest.GradleSettings([]byte(s.Tree.Text(settings)))
	versions, ids := map[string]string{}, map[string]string{}
	var libraries []string
	if catalog := "gradle/libs.versions.toml"; s.Tree.Has(catalog) {
		var err error
		versions, ids, err = manifest.CatalogPlugins([]byte(s.Tree.Text(catalog)))
		s.Parsed(catalog, err)
		libraries = manifest.CatalogLibraries([]byte(s.Tree.Text(catalog)))
	}
	dirs := []string{"."}
	for _, p := range projects {
		dirs = append(dirs, path.Join(".", strings.ReplaceAll(p, ":", "/")))
	}
	root := manifest.Gradle{}
	for _, dir := range dirs {
		file := s.Tree.First(path.Join(dir, "build.gradle.kts"), path.Join(dir, "build.gradle"))
		if file == "" || strings.HasPrefix(dir, "..") {
			continue
		}
		g := manifest.ParseGradle([]byte(s.Tree.Text(file)))
		for _, alias := range g.Aliases {
			if id := ids[alias]; id != "" {
				g.Plugins[id] = versions[id]
			}
		}
		if dir == "." {
			root = g
		}
		m := gradleModule(g, root, dir)
		m.dir, m.file, m.dependencies = dir, file, append(m.dependencies, libraries...)
		if m.name = path.Base(dir); dir == "." {
			m.name = cmp.Or(name, "app")
		}
		if m.mainClass == "" && !m.app() && (len(projects) == 0 || dir != ".") {
			m.mainClass = s.findMain(dir)
		}
		modules = append(modules, m)
	}
	return modules
}

// gradleModule reads the facts of one project. Plugins that the root declares with
// "apply false" are only versions.
func gradleModule(g, root manifest.Gradle, dir string) javaModule {
	applied := func(id string) bool {
		_, ok := g.Plugins[id]
		return ok && !(dir == "." && unapplied(g.Text, id))
	}
	m := javaModule{java: cmp.Or(g.Java, root.Java), mainClass: g.MainClass, dependencies: g.Dependencies}
	if applied("org.springframework.boot") {
		m.spring = cmp.Or(g.Plugins["org.springframework.boot"], root.Plugins["org.springframework.boot"], "?")
	}
	m.quarkus = applied("io.quarkus")
	m.shaded = applied("com.github.johnrengelman.shadow") || applied("com.gradleup.shadow")
	m.ktor = applied("io.ktor.plugin")
	m.application = applied("application") && !m.shaded
	return m
}

// unapplied reports whether a plugin is declared with "apply false".
func unapplied(text, id string) bool {
	for line := range strings.Lines(text) {
		if strings.Contains(line, "apply false") || strings.Contains(line, "apply(false)") {
			alias := strings.TrimPrefix(strings.TrimPrefix(id, "org."), "io.")
			if strings.Contains(line, id) || strings.Contains(line, "libs.plugins."+strings.ReplaceAll(alias, "springframework", "spring")) || strings.Contains(line, "alias") {
				return true
			}
		}
	}
	return false
}
