// Package language knows the languages of source trees: how their applications are built
// and started. It writes a Dockerfile for one of them.
//
// Each language is a file with an analysis and a template in the directory templates, or
// a package of its own. The analysis reads the tree and fills the fields of the template.
package language

import (
	"embed"

	"github.com/cairn-build/cairn/builder/generate/java"
	"github.com/cairn-build/cairn/builder/generate/javascript"
	"github.com/cairn-build/cairn/builder/generate/python"
	"github.com/cairn-build/cairn/builder/generate/sourcetree"
	"github.com/cairn-build/cairn/builder/generate/survey"
)

//go:embed templates
var templates embed.FS

// project is an analysis in progress.
type project struct{ *survey.Survey }

// Language is a kind of project.
type Language struct {
	Name    string // value of --lang
	Title   string
	Files   []string // that show it, for messages
	Detect  func(*sourcetree.Tree) bool
	Analyse func(survey.Request) (*survey.Project, error)
}

// All returns the languages in the order of their detection. A package.json beside the
// files of PHP, Ruby, Python, .NET or Java has their assets.
func All() []Language {
	return []Language{
		{"php", "PHP", []string{"composer.json", "index.php"}, isPHP, php},
		{"dotnet", ".NET", []string{"*.sln", "*.slnx", "*.csproj", "*.fsproj"}, isDotNet, dotnet},
		{"java", "Java or Kotlin", []string{"pom.xml", "build.gradle", "build.gradle.kts", "settings.gradle(.kts)"}, java.Detect, java.Analyse},
		{"go", "Go", []string{"go.mod", "go.work"}, isGo, golang},
		{"rust", "Rust", []string{"Cargo.toml"}, isRust, rust},
		{"ruby", "Ruby", []string{"Gemfile"}, isRuby, ruby},
		{"python", "Python", []string{"pyproject.toml", "requirements.txt", "Pipfile", "setup.py", "manage.py", "main.py", "app.py"}, python.Detect, python.Analyse},
		{"deno", "Deno", []string{"deno.json", "deno.jsonc"}, javascript.DetectDeno, javascript.AnalyseDeno},
		{"node", "Node.js or Bun", []string{"package.json"}, detectNode, javascript.Analyse},
		{"static", "static site", []string{"index.html", "public/index.html", "dist/index.html", "hugo.toml", "mkdocs.yml", "_config.yml"}, isStatic, static},
	}
}

// detectNode reports whether a tree is a project of Node.js or Bun. Sites of Hugo may have a
// package.json for their assets.
func detectNode(t *sourcetree.Tree) bool { return javascript.Detect(t) && hugoConfig(t) == "" }
