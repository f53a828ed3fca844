Gem::Specification.new do |s|
  s.name = "json".freeze
  s.version = "2.6.1"
  s.licenses = ["Ruby".freeze, "MIT".freeze]
end
