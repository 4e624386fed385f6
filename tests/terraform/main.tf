# An instance, a cluster and their targets as a team keeps them in Terraform.

terraform {
  required_providers {
    aws = {
      source = "hashicorp/aws"
    }
  }
}

variable "target" {
  type = string
}

variable "engine_version" {
  type = string
}

provider "aws" {}

resource "aws_ssm_parameter" "target" {
  for_each = toset(["orders", "shop"])
  name     = "/day2/${each.key}/target-revision"
  type     = "String"
  value    = var.target
}

resource "aws_db_parameter_group" "orders" {
  name   = "orders"
  family = "postgres${split(".", var.engine_version)[0]}"

  parameter {
    name  = "log_min_duration_statement"
    value = "500"
  }
}

resource "aws_db_instance" "orders" {
  identifier                            = "orders"
  engine                                = "postgres"
  engine_version                        = var.engine_version
  instance_class                        = "db.t4g.micro"
  allocated_storage                     = 20
  storage_type                          = "gp3"
  storage_encrypted                     = true
  db_name                               = "orders"
  username                              = "postgres"
  manage_master_user_password           = true
  parameter_group_name                  = aws_db_parameter_group.orders.name
  performance_insights_enabled          = true
  performance_insights_retention_period = 7
  iam_database_authentication_enabled   = true
  backup_retention_period               = 7
  apply_immediately                     = true
  skip_final_snapshot                   = true

  tags = {
    day2 = "enabled"
  }

  # Declared first, so that day2 knows where to go before it may go.
  depends_on = [aws_ssm_parameter.target]
}

resource "aws_rds_cluster_parameter_group" "shop" {
  name   = "shop"
  family = "aurora-postgresql${split(".", var.engine_version)[0]}"

  parameter {
    name  = "log_min_duration_statement"
    value = "500"
  }

  tags = {
    team = "shop"
  }
}

resource "aws_kms_key" "shop" {
  description = "what the cluster is encrypted with, and its master secret"
}

resource "aws_rds_cluster" "shop" {
  cluster_identifier                  = "shop"
  engine                              = "aurora-postgresql"
  engine_version                      = var.engine_version
  database_name                       = "shop"
  master_username                     = "postgres"
  manage_master_user_password         = true
  master_user_secret_kms_key_id       = aws_kms_key.shop.key_id
  db_cluster_parameter_group_name     = aws_rds_cluster_parameter_group.shop.name
  storage_encrypted                   = true
  kms_key_id                          = aws_kms_key.shop.arn
  iam_database_authentication_enabled = true
  backup_retention_period             = 7
  copy_tags_to_snapshot               = true
  enabled_cloudwatch_logs_exports     = ["postgresql"]
  apply_immediately                   = true
  skip_final_snapshot                 = true

  serverlessv2_scaling_configuration {
    min_capacity = 0.5
    max_capacity = 4
  }

  tags = {
    day2 = "enabled"
  }

  depends_on = [aws_ssm_parameter.target]
}

resource "aws_rds_cluster_instance" "shop" {
  identifier                   = "shop-1"
  cluster_identifier           = aws_rds_cluster.shop.id
  instance_class               = "db.serverless"
  engine                       = aws_rds_cluster.shop.engine
  engine_version               = aws_rds_cluster.shop.engine_version
  performance_insights_enabled = true
}
