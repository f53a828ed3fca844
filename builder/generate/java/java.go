// Package java writes Dockerfiles for projects of Java and Kotlin.
package java

import (
	"embed"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/cairn-build/cairn/builder/generate/manifest"
	"github.com/cairn-build/cairn/builder/generate/release"
	"github.com/cairn-build/cairn/builder/generate/sourcetree"
	"github.com/cairn-build/cairn/builder/generate/survey"
)

//go:embed templates
var templates embed.FS

// project is an analysis in progress.
type project struct{ *survey.Survey }

// Detect reports whether a tree has a project of Maven or Gradle.
func Detect(t *sourcetree.Tree) bool {
	return t.First("pom.xml", "build.gradle", "build.gradle.kts", "settings.gradle", "settings.gradle.kts") != ""
}

// javaFile has the fields of java.Dockerfile.
type javaFile struct {
	Version string
	Image   string // of the build
	Wrapper string // mvnw or gradlew, or ""
	Cache   string
	Build   survey.Shell
	Kind    string       // spring, layers, quarkus, install, jar, classes: the form of the output
	Output  survey.Shell // the command that puts it to /out
	Name    string       // of the start script
	Port    int
	Health  survey.Exec
	Command survey.Exec
}

// javaModule is a module that may be an application.
type javaModule struct {
	dir          string
	name         string
	file         string
	spring       string // version of Spring Boot; "?" if it is unknown
	quarkus      bool
	shaded       bool
	application  bool // of Gradle's plugin
	ktor         bool
	mainClass    string
	java         string
	dependencies []string
}

func (m javaModule) app() bool {
	return m.spring != "" || m.quarkus || m.shaded || m.application || m.ktor || m.mainClass != ""
}

// Analyse writes a Dockerfile for a project of Maven or Gradle.
func Analyse(r survey.Request) (*survey.Project, error) {
	s := &project{survey.New(r)}
	maven := s.Tree.Has("pom.xml")
	var modules []javaModule
	if maven {
		modules = s.mavenModules()
	} else {
		modules = s.gradleModules()
	}
	if s.Err != nil {
		return nil, s.Err
	}
	m, err := s.javaApp(modules)
	if err != nil {
		return nil, err
	}
	f := javaFile{Cache: "/root/.gradle", Name: m.name}
	s.Name = m.name
	s.javaVersion(&f, m, modules)
	s.javaTool(&f, maven)
	s.javaOutput(&f, m, maven)
	usual := 0
	if m.spring != "" || m.quarkus || m.ktor {
		usual = 8080
	}
	number, from := s.javaPort(m.dir)
	f.Port = s.ChoosePort(from, number, usual)
	if s.Health {
		s.Warn("no HEALTHCHECK: the image has no program that could ask the server; orchestrators can ask by HTTP themselves")
	}
	s.AddServices(m.dependencies)
	s.Ignore, s.Outputs = []string{".gradle", "*.class", "*.iml"}, []string{"target", "build"}
	if s.Tree.First("build/build.gradle", "build/build.gradle.kts") != "" {
		s.Outputs = s.Outputs[:1]
	}
	s.Dockerfile, err = survey.Render(templates, "java", f)
	return s.Project, err
}

// javaApp chooses the module to start.
func (s *project) javaApp(modules []javaModule) (javaModule, error) {
	var apps []javaModule
	var dirs []string
	for _, m := range modules {
		if s.App != "" && (path.Clean(s.App) == m.dir || s.App == m.name || path.Base(m.dir) == s.App) {
			return m, nil
		}
		if m.app() {
			apps = append(apps, m)
			dirs = append(dirs, m.dir)
		}
	}
	switch {
	case s.App != "":
		return javaModule{}, &survey.ChoiceError{Kind: "modules", App: s.App, Choices: dirs}
	case len(apps) == 0:
		return javaModule{}, survey.NoApp("Spring Boot, Quarkus, a plugin for an executable jar, the plugin application, or a class with main", "pom.xml and build.gradle")
	case len(apps) > 1:
		return javaModule{}, &survey.ChoiceError{Kind: "modules", Choices: dirs}
	}
	if len(modules) > 1 {
		s.Found(apps[0].file, "module %s of %d", survey.Display(apps[0].dir), len(modules))
	}
	return apps[0], nil
}

// javaVersion decides on the version of Java.
func (s *project) javaVersion(f *javaFile, m javaModule, modules []javaModule) {
	declared := []survey.Origin{{File: m.file, Version: m.java, Choose: release.Language.Exact}}
	for _, other := range modules {
		declared = append(declared, survey.Origin{File: other.file, Version: other.java, Choose: release.Language.Exact})
	}
	f.Version = s.Choose(release.Java, declared, s.Pinned(".", ".java-version"),
		[]survey.Origin{{File: "system.properties", Version: manifest.Properties([]byte(s.Tree.Text("system.properties")))["java.runtime.version"], Choose: release.Language.Exact}, {File: ".sdkmanrc", Version: manifest.Properties([]byte(s.Tree.Text(".sdkmanrc")))["java"], Choose: release.Language.Exact}}, s.Tools("java"))
	if !slices.Contains(release.Java.Supported, f.Version) {
		s.Warn("Java %s has no long term support, and its images are no longer made", f.Version)
	}
}

// javaTool decides on the image of the build: a JDK for a wrapper, or else that of
// Maven or Gradle.
func (s *project) javaTool(f *javaFile, maven bool) {
	wrapper, tool := "gradlew", "Gradle"
	f.Image = "gradle:jdk" + f.Version
	properties := "gradle/wrapper/gradle-wrapper.properties"
	if maven {
		wrapper, tool, f.Cache = "mvnw", "Maven", "/root/.m2"
		properties = ".mvn/wrapper/maven-wrapper.properties"
		f.Image = "maven:3-eclipse-temurin-" + f.Version
	}
	if s.Tree.Has(wrapper) && s.Tree.Has(properties) {
		s.Found(wrapper, "%s by its wrapper", tool)
		f.Wrapper = wrapper
		f.Image = "eclipse-temurin:" + f.Version + "-jdk"
	} else {
		s.Found("", "%s of the image: there is no complete wrapper", tool)
	}
}

// javaOutput fills in the commands that build the module and start it.
func (s *project) javaOutput(f *javaFile, m javaModule, maven bool) {
	dir := m.dir
	target := path.Join(dir, "build/libs")
	if maven {
		f.Build = "mvn -B -DskipTests package"
		if dir != "." {
			f.Build = survey.Command("mvn -B -DskipTests -pl %s -am package", dir)
		}
		if f.Wrapper != "" {
			f.Build = "sh ./mvnw" + survey.Shell(strings.TrimPrefix(string(f.Build), "mvn"))
		}
		target = path.Join(dir, "target")
	}
	gradle := func(task string) survey.Shell {
		project := ""
		if dir != "." {
			project = strings.ReplaceAll(dir, "/", ":") + ":"
		}
		command := survey.Shell("gradle")
		if f.Wrapper != "" {
			command = "sh ./gradlew"
		}
		return command + survey.Command(" --no-daemon %s", project+task)
	}
	jars := survey.Command("rm -f %[1]s/original-*.jar %[1]s/*-plain.jar %[1]s/*-sources.jar %[1]s/*-javadoc.jar \\\n && cp %[1]s/*.jar /out/app.jar", target)
	f.Command = survey.Exec{"java", "-XX:MaxRAMPercentage=75", "-jar", "/app/app.jar"}
	switch {
	case m.spring != "":
		s.springBoot(f, m)
		if !maven {
			f.Build = gradle("bootJar")
		}
		f.Output = jars
	case m.quarkus:
		s.Found(m.file, "Quarkus")
		f.Kind = "copy"
		if !maven {
			f.Build = gradle("quarkusBuild")
			target = path.Join(dir, "build")
		}
		f.Output = survey.Command("cp -r %s/quarkus-app/. /out", target)
		f.Command[3] = "/app/quarkus-run.jar"
	case m.shaded:
		s.Found(m.file, "a jar with all dependencies")
		f.Kind = "copy"
		f.Output = jars
		if !maven {
			f.Build = gradle("shadowJar")
			f.Output = survey.Command("cp %s/*-all.jar /out/app.jar", target)
		}
	case m.ktor && !m.application:
		s.Found(m.file, "Ktor")
		f.Kind, f.Build, f.Output = "copy", gradle("buildFatJar"), survey.Command("cp %s/*-all.jar /out/app.jar", target)
	case m.application:
		s.Found(m.file, "started by the plugin application")
		f.Kind, f.Build = "copy", gradle("installDist")
		f.Output = survey.Command("cp -r %s/build/install/*/. /out \\\n && mv /out/bin/%s /out/bin/start", dir, m.name)
		f.Command = survey.Exec{"/app/bin/start"}
	case maven:
		f.Kind = "copy"
		f.Build += " dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=/out/lib"
		f.Output = jars
		f.Command = survey.Exec{"java", "-XX:MaxRAMPercentage=75", "-cp", "/app/app.jar:/app/lib/*", m.mainClass}
	default:
		f.Kind, f.Build, f.Output = "copy", gradle("jar"), jars
		if len(m.dependencies) > 0 {
			s.Warn("the jar has no dependencies: apply the plugin application, and run cairn init again")
		}
		f.Command = survey.Exec{"java", "-XX:MaxRAMPercentage=75", "-cp", "/app/app.jar", m.mainClass}
	}
}

// springBoot unpacks the jar in layers: the dependencies, which change rarely, are one.
func (s *project) springBoot(f *javaFile, m javaModule) {
	f.Kind = "layers"
	if m.spring == "?" {
		s.Found(m.file, "Spring Boot")
	} else {
		s.Found(m.file, "Spring Boot %s", survey.Display(m.spring))
	}
	v := strings.Split(m.spring+".0.0", ".")
	if older(v, "3", "3") {
		f.Kind = "layertools"
		launcher := "org.springframework.boot.loader.launch.JarLauncher"
		if older(v, "3", "2") {
			launcher = "org.springframework.boot.loader.JarLauncher"
		}
		f.Command = survey.Exec{"java", "-XX:MaxRAMPercentage=75", launcher}
	}
	if survey.HasAny(m.dependencies, "org.springframework.boot:spring-boot-starter-actuator") {
		s.Found(m.file, "readiness for probes: /actuator/health")
	}
}

// older reports whether a version is known to be before major.minor.
func older(v []string, major, minor string) bool {
	return len(v[0]) == 1 && v[0] >= "0" && v[0] <= "9" && (v[0] < major || v[0] == major && len(v[1]) == 1 && v[1] < minor)
}

var (
	serverPort = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?m)^(?:quarkus\.http|server)\.port\s*[:=]\s*(?:\$\{[A-Za-z_.]+:)?(\d{2,5})\b|^server:\s*(?:#.*)?\r?\n(?:[ \t]+.*\r?\n)*?[ \t]+port:\s*["']?(?:\$\{[A-Za-z_.]+:)?(\d{2,5})\b`)
	})
	sourcePort = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?:InetSocketAddress\(|\.port\(|port\s*=\s*|\.start\(|\.listen\()(?:"[0-9.]*",\s*)?(\d{4,5})\b`)
	})
	javaMain = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`\bstatic\s+void\s+main\s*\(|(?m)^fun\s+main\s*\(`)
	})
	javaPackage = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^package\s+([A-Za-z0-9_.]+)`) })
)

// javaPort looks for the port in the configuration and sources of a module.
func (s *project) javaPort(dir string) (number int, from string) {
	find := func(r *regexp.Regexp) func(name, text string) bool {
		return func(_, text string) bool {
			if m := r.FindStringSubmatch(text); m != nil {
				number = survey.Atoi(strings.Join(m[1:], ""))
			}
			return number != 0
		}
	}
	resources := path.Join(dir, "src/main/resources")
	var files []string
	for _, name := range []string{"application.properties", "application.yml", "application.yaml"} {
		files = append(files, path.Join(resources, name))
	}
	if from = s.Tree.Search(files, find(serverPort())); from == "" {
		from = s.Tree.Search(s.Tree.Below(path.Join(dir, "src/main"), ".java", ".kt"), find(sourcePort()))
	}
	return number, from
}

// findMain looks for the class with the method main.
func (s *project) findMain(dir string) string {
	class := ""
	s.Tree.Search(s.Tree.Below(path.Join(dir, "src/main"), ".java", ".kt"), func(name, text string) bool {
		if !javaMain().MatchString(text) {
			return false
		}
		class = strings.TrimSuffix(path.Base(name), path.Ext(name))
		if path.Ext(name) == ".kt" {
			class = strings.ToUpper(class[:1]) + class[1:] + "Kt"
		}
		if m := javaPackage().FindStringSubmatch(text); m != nil {
			class = m[1] + "." + class
		}
		return true
	})
	return class
}
