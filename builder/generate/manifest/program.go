package manifest

import "strings"

// Gradle has the declarations of a build.gradle or build.gradle.kts.
type Gradle struct {
	Plugins      map[string]string // versions by ID; "" if the version is elsewhere
	Aliases      []string          // of plugins in the version catalog: "spring.boot"
	Java         string            // of the toolchain, or the source or target compatibility
	MainClass    string            // of the plugin application
	Dependencies []string          // group:name
	Text         string
}

var (
	gradleComment = expression(`(?s:/\*.*?\*/)|(?m:^[ \t]*//[^\n]*)`)
	gradleID      = expression(`\bid\s*\(?\s*["']([A-Za-z0-9._-]+)["']\s*\)?(?:\s*version\s*\(?\s*["']([A-Za-z0-9._-]+)["'])?`)
	gradleApply   = expression(`\bapply\s*\(?\s*plugin\s*[:=]\s*["']([A-Za-z0-9._-]+)["']`)
	gradleKotlin  = expression("(?m)\\bkotlin\\(\\s*\"(jvm|multiplatform)\"\\s*\\)|^\\s*`?(application|java|war)`?\\s*$")
	gradleAlias   = expression(`\balias\s*\(?\s*libs\.plugins\.([A-Za-z0-9._]+)`)
	gradleJava    = expression(`languageVersion\s*(?:=|\.set\()\s*JavaLanguageVersion\.of\(\s*["']?(\d+)|jvmToolchain\(\s*(\d+)|(?:source|target)Compatibility\s*=?\s*(?:JavaVersion\.VERSION_)?["']?(?:1[._])?(\d+)|JavaVersion\.VERSION_(\d+)\b`)
	gradleMain    = expression(`\bmainClass(?:Name)?\s*(?:=|\.set\()\s*["']([A-Za-z0-9._$]+)["']`)
	gradleDep     = expression(`["']([A-Za-z0-9._-]+:[A-Za-z0-9._-]+)(?::[^"'\n]*)?["']`)
	gradleInclude = expression(`(?s)\binclude\s*\(?((?:\s*["'][A-Za-z0-9._:/-]+["']\s*,?)+)`)
	gradleRoot    = expression(`\brootProject\.name\s*=\s*["']([^"'\n]+)["']`)
	quoted        = expression(`["']([^"'\n]+)["']`)
)

// ParseGradle finds the declarations of a build.gradle or build.gradle.kts.
func ParseGradle(text []byte) Gradle {
	g := Gradle{Plugins: map[string]string{}, Text: gradleComment().ReplaceAllString(string(text), "")}
	for _, m := range gradleID().FindAllStringSubmatch(g.Text, -1) {
		g.Plugins[m[1]] = m[2]
	}
	for _, m := range gradleApply().FindAllStringSubmatch(g.Text, -1) {
		g.Plugins[m[1]] = ""
	}
	for _, m := range gradleKotlin().FindAllStringSubmatch(g.Text, -1) {
		if m[1] != "" {
			g.Plugins["org.jetbrains.kotlin."+m[1]] = ""
		} else {
			g.Plugins[m[2]] = ""
		}
	}
	for _, m := range gradleAlias().FindAllStringSubmatch(g.Text, -1) {
		g.Aliases = append(g.Aliases, strings.TrimRight(m[1], "."))
	}
	if m := gradleJava().FindStringSubmatch(g.Text); m != nil {
		g.Java = m[1] + m[2] + m[3] + m[4]
	}
	if m := gradleMain().FindStringSubmatch(g.Text); m != nil {
		g.MainClass = m[1]
	}
	for _, m := range gradleDep().FindAllStringSubmatch(g.Text, -1) {
		g.Dependencies = append(g.Dependencies, m[1])
	}
	return g
}

// GradleSettings finds the name of the root project and the paths of included projects
// in a settings.gradle or settings.gradle.kts.
func GradleSettings(text []byte) (name string, projects []string) {
	plain := gradleComment().ReplaceAllString(string(text), "")
	if m := gradleRoot().FindStringSubmatch(plain); m != nil {
		name = m[1]
	}
	for _, m := range gradleInclude().FindAllStringSubmatch(plain, -1) {
		for _, q := range quoted().FindAllStringSubmatch(m[1], -1) {
			projects = append(projects, strings.TrimPrefix(q[1], ":"))
		}
	}
	return name, projects
}

// CatalogPlugins returns the versions of the plugins in a libs.versions.toml by ID, and
// their IDs by alias with dots.
func CatalogPlugins(text []byte) (versions, ids map[string]string, err error) {
	d, err := TOML(text)
	if err != nil {
		return nil, nil, err
	}
	versions, ids = map[string]string{}, map[string]string{}
	for _, alias := range d.Keys("plugins") {
		id, version, _ := strings.Cut(d.String("plugins", alias), ":")
		if id == "" {
			id, version = d.String("plugins", alias, "id"), d.String("plugins", alias, "version")
		}
		if ref := d.String("plugins", alias, "version", "ref"); ref != "" {
			version = d.String("versions", ref)
		}
		versions[id] = version
		ids[strings.NewReplacer("-", ".", "_", ".").Replace(alias)] = id
	}
	return versions, ids, nil
}

// CatalogLibraries returns the libraries in a libs.versions.toml: group:name.
func CatalogLibraries(text []byte) (list []string) {
	for _, m := range gradleDep().FindAllSubmatch(text, -1) {
		list = append(list, string(m[1]))
	}
	return list
}

// Gems is the content of a Gemfile or a Gemfile.lock.
type Gems struct {
	Ruby    string // version, or a requirement of it, or ""
	Names   []string
	Bundler string // version that wrote the lock file, or ""
}

var (
	gemName   = expression(`(?m)^\s*gem\s*\(?\s*["']([A-Za-z0-9._-]+)["']`)
	gemRuby   = expression(`(?m)^\s*ruby\s*\(?\s*["']([^"'\n]+)["']`)
	lockGem   = expression(`(?m)^ {4}([A-Za-z0-9._-]+) \(`)
	lockRuby  = expression(`(?m)^RUBY VERSION\r?\n\s+ruby ([0-9][0-9.]*)`)
	lockBunds = expression(`(?m)^BUNDLED WITH\r?\n\s+([0-9][0-9.]*)`)
)

// Gemfile finds the declarations of a Gemfile.
func Gemfile(text []byte) (g Gems) {
	if m := gemRuby().FindSubmatch(text); m != nil {
		g.Ruby = string(m[1])
	}
	for _, m := range gemName().FindAllSubmatch(text, -1) {
		g.Names = append(g.Names, string(m[1]))
	}
	return g
}

// GemfileLock parses a Gemfile.lock.
func GemfileLock(text []byte) (g Gems) {
	if m := lockRuby().FindSubmatch(text); m != nil {
		g.Ruby = string(m[1])
	}
	if m := lockBunds().FindSubmatch(text); m != nil {
		g.Bundler = string(m[1])
	}
	for _, m := range lockGem().FindAllSubmatch(text, -1) {
		g.Names = append(g.Names, string(m[1]))
	}
	return g
}
