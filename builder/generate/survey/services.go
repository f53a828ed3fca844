package survey

// Service is a database or queue that an application connects to.
type Service struct {
	Name      string
	Libraries []string // packages of all languages that are its clients
}

// Services returns the services that client libraries are known of.
func Services() []Service {
	return []Service{
		{"postgres", []string{
			"pg", "postgres", "pg-promise", "psycopg", "psycopg2", "psycopg2-binary", "psycopg[binary]", "psycopg[c]", "asyncpg",
			"github.com/lib/pq", "github.com/jackc/pgx", "github.com/jackc/pgx/v4", "github.com/jackc/pgx/v5", "gorm.io/driver/postgres",
			"org.postgresql:postgresql", "tokio-postgres", "sqlx-postgres", "Npgsql", "Npgsql.EntityFrameworkCore.PostgreSQL", "ext-pgsql", "ext-pdo_pgsql",
		}},
		{"mysql", []string{
			"mysql", "mysql2", "mysqlclient", "pymysql", "aiomysql", "mysql-connector-python", "github.com/go-sql-driver/mysql", "gorm.io/driver/mysql",
			"com.mysql:mysql-connector-j", "mysql:mysql-connector-java", "mysql_async", "MySqlConnector", "Pomelo.EntityFrameworkCore.MySql", "ext-mysqli", "ext-pdo_mysql",
		}},
		{"redis", []string{
			"redis", "ioredis", "bullmq", "connect-redis", "django-redis", "celery[redis]", "github.com/redis/go-redis/v9", "github.com/go-redis/redis/v8",
			"github.com/gomodule/redigo", "org.springframework.boot:spring-boot-starter-data-redis", "redis.clients:jedis", "StackExchange.Redis",
			"predis/predis", "ext-redis", "sidekiq", "resque",
		}},
		{"mongo", []string{
			"mongodb", "mongoose", "pymongo", "motor", "mongoengine", "go.mongodb.org/mongo-driver", "go.mongodb.org/mongo-driver/v2",
			"org.springframework.boot:spring-boot-starter-data-mongodb", "org.mongodb:mongodb-driver-sync", "MongoDB.Driver", "mongodb/mongodb", "mongoid", "mongo",
		}},
	}
}
