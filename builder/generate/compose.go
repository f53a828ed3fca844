package generate

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/generate/survey"
)

// composeFile returns the Compose file of a project: the application and the services
// that it has client libraries for.
func composeFile(p *survey.Project) string {
	var app, services, volumes, secrets strings.Builder
	var depends, environment []string
	for _, name := range p.Services {
		s := composeServices[name]
		services.WriteString("\n" + s.text)
		fmt.Fprintf(&volumes, "  %s-data:\n", s.name)
		depends = append(depends, s.name)
		environment = append(environment, s.environment...)
	}
	password := strings.Contains(services.String(), "/run/secrets/db_password")
	app.WriteString("# Written by cairn init. cairn compose build, or docker compose up --build.\nservices:\n  app:\n    build: .\n")
	if p.Port != 0 {
		fmt.Fprintf(&app, "    ports:\n      - \"%d:%d\"\n", p.Port, p.Port)
	}
	if len(environment) > 0 {
		app.WriteString("    environment:\n")
		for _, e := range environment {
			app.WriteString("      " + e + "\n")
		}
	}
	if password {
		app.WriteString("    # The application reads the password from this file.\n    secrets:\n      - db_password\n")
		secrets.WriteString("secrets:\n  # openssl rand -hex 20 > db_password.txt\n  db_password:\n    file: ./db_password.txt\n")
	}
	if len(depends) > 0 {
		app.WriteString("    depends_on:\n")
		for _, name := range depends {
			fmt.Fprintf(&app, "      %s:\n        condition: service_healthy\n", name)
		}
	}
	app.WriteString(services.String())
	if volumes.Len() > 0 {
		app.WriteString("\nvolumes:\n" + volumes.String())
	}
	if secrets.Len() > 0 {
		app.WriteString("\n" + secrets.String())
	}
	return app.String()
}

// composeService is a service beside the application.
type composeService struct {
	name        string
	environment []string // of the application
	text        string
}

var composeServices = map[string]composeService{
	"postgres": {
		name:        "db",
		environment: []string{"PGHOST: db", "PGUSER: app", "PGDATABASE: app", "PGPASSWORD_FILE: /run/secrets/db_password"},
		text: `  db:
    image: postgres:17
    environment:
      POSTGRES_USER: app
      POSTGRES_DB: app
      POSTGRES_PASSWORD_FILE: /run/secrets/db_password
    secrets:
      - db_password
    volumes:
      - db-data:/var/lib/postgresql/data
    healthcheck:
      test: ["CMD", "pg_isready", "-U", "app", "-d", "app"]
      interval: 5s
      retries: 20
`},
	"mysql": {
		name:        "mysql",
		environment: []string{"MYSQL_HOST: mysql", "MYSQL_USER: app", "MYSQL_DATABASE: app", "MYSQL_PASSWORD_FILE: /run/secrets/db_password"},
		text: `  mysql:
    image: mysql:8.4
    environment:
      MYSQL_USER: app
      MYSQL_DATABASE: app
      MYSQL_PASSWORD_FILE: /run/secrets/db_password
      MYSQL_RANDOM_ROOT_PASSWORD: "yes"
    secrets:
      - db_password
    volumes:
      - mysql-data:/var/lib/mysql
    healthcheck:
      test: ["CMD", "mysqladmin", "ping", "-h", "127.0.0.1"]
      interval: 5s
      retries: 20
`},
	"redis": {
		name:        "redis",
		environment: []string{"REDIS_URL: redis://redis:6379"},
		text: `  redis:
    image: redis:7
    volumes:
      - redis-data:/data
    healthcheck:
      test: ["CMD", "redis-cli", "ping"]
      interval: 5s
      retries: 20
`},
	"mongo": {
		name:        "mongo",
		environment: []string{"MONGO_HOST: mongo", "MONGO_USER: app", "MONGO_PASSWORD_FILE: /run/secrets/db_password"},
		text: `  mongo:
    image: mongo:8
    environment:
      MONGO_INITDB_ROOT_USERNAME: app
      MONGO_INITDB_ROOT_PASSWORD_FILE: /run/secrets/db_password
    secrets:
      - db_password
    volumes:
      - mongo-data:/data/db
    healthcheck:
      test: ["CMD", "mongosh", "--quiet", "--eval", "db.adminCommand('ping')"]
      interval: 5s
      retries: 20
`},
}

// ImageName returns a name for the image of a project: the project's, that of the
// directory, or "app".
func ImageName(p *survey.Project, dir string) string {
	valid := regexp.MustCompile(`^[a-z0-9]+(?:[._-][a-z0-9]+)*$`)
	for _, name := range []string{p.Name, dir} {
		name = strings.ToLower(name)
		if valid.MatchString(name) && len(name) < 60 && !slices.Contains([]string{"src", "cmd", "tmp"}, name) {
			return name
		}
	}
	return "app"
}
