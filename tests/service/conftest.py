from served import admin, member, model_folder, service  # noqa: F401 - fixtures for every test of the folder
