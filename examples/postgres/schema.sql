CREATE TABLE greetings (name text PRIMARY KEY, text text NOT NULL);
INSERT INTO greetings VALUES ('you', 'Hello, you.'), ('world', 'Hello, world.');
CREATE ROLE reader LOGIN;
GRANT SELECT ON greetings TO reader;
